"""Backup and restore: the log position for position, the objects, and the state of processes."""
