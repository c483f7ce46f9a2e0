"""Those who do the work: claim a job, renew its lease, run it, report. A worker never decides who may work on what."""
