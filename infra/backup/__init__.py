"""Backup and restore: the log position for position, the objects, and what processes know."""
