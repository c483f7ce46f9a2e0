"""Processes that read the log: they fold it into projections, plan work, and assign it to workers."""
