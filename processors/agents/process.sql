-- name: lock
-- One batch of a process at a time, also of several programs: a row takes from topics that different ones may read.
SELECT pg_advisory_xact_lock(hashtext('kinolog.process'), hashtext(%(process)s));

-- name: decided
SELECT subject, name FROM kinolog.decided WHERE process = %(process)s AND rule = %(rule)s AND subject = ANY (%(subjects)s::text[]);

-- name: remember
INSERT INTO kinolog.decided (process, rule, subject, name)
SELECT %(process)s, %(rule)s, subject, name FROM unnest(%(subjects)s::text[], %(names)s::text[]) AS made (subject, name)
ON CONFLICT (process, rule, subject) DO UPDATE SET name = excluded.name;

-- name: forget
DELETE FROM kinolog.decided WHERE process = %(process)s AND rule = %(rule)s AND subject = ANY (%(subjects)s::text[]);
