"""Delivering: notices of the log, and the one process that sends them outside."""
