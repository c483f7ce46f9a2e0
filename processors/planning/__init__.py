"""Plans from probes: the process, the ladder, filters and texts."""
