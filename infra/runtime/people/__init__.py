"""People in PostgreSQL: names, hashes and secrets, which are never on the log and in no backup."""
