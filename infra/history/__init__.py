"""Readers of the whole log: databases of the past, SQL over events, checkpoints of replays, rebuilds by several processes."""
