"""Processes that read the log: folding it into projections, planning work, deciding who may do it."""
