"""The vocabulary of Kinolog: what can be on the log, and how it is written there. Imports nothing of ours."""
