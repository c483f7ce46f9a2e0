"""The local engine: the real Kafka, PostgreSQL and object store on this machine, without containers."""
