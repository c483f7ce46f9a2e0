"""One attempt at a job: the interface of a kind of work, its child processes, the classification of failures."""
