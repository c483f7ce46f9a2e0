"""Read models: each a pure fold of the log, its SQL beside it, and the functions that read it."""
