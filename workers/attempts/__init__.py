"""One attempt at a job: the interface of a kind of work, the programs that it runs, and why it failed. The bottom of workers."""
