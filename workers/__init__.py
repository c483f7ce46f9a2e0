"""Workers claim a job, renew its lease, run it and report the result. A worker never decides on the assignment of jobs."""
