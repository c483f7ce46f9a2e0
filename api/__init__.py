"""Thin HTTP apps: they append and read, and decide nothing."""
