"""The worker app: turns requests of workers outside the cluster into requests on the log, and answers with the decisions."""
