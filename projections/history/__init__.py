"""The log's past: archive, proof, time travel, replay, backup, and checks that nothing was lost."""
