-- name: known
-- The databases of the past that are whole, and what each holds.
SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
WHERE starts_with(datname, %(prefix)s) AND shobj_description(oid, 'pg_database') IS NOT NULL;

-- name: lock
-- One maker at a time.
SELECT pg_advisory_lock(hashtext('kinolog.past'));

-- name: unlock
SELECT pg_advisory_unlock(hashtext('kinolog.past'));
