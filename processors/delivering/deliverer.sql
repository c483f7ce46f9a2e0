-- name: own
-- True for the one session that may deliver, until it ends.
SELECT pg_try_advisory_lock(hashtext(current_database() || ' deliverer'));
