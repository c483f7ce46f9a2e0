"""The commands of `kinolog`, one file per group. Heavy imports happen inside functions: `kinolog --help` is quick."""
