"""Workers outside the cluster: all their communication goes through the worker app, over HTTP."""
