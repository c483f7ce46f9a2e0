-- name: known
-- Complete databases of the past, with the positions that each holds.
SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
WHERE starts_with(datname, %(prefix)s) AND shobj_description(oid, 'pg_database') IS NOT NULL;

-- name: lock
-- Lets one process at a time make or drop databases of the past.
SELECT pg_advisory_lock(hashtext('kinolog.past'));

-- name: unlock
SELECT pg_advisory_unlock(hashtext('kinolog.past'));
