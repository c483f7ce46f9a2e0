"""Workers outside the cluster: everything goes through the worker app, over HTTP."""
