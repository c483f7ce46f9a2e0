"""Stored settings: those in force in a process, and the desk at which they are changed."""
