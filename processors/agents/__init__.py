"""Mechanism of the processors: the Faust app, feeds that fail alone, processes and dead letters."""
