-- name: create
-- What the runners know about themselves; one row per projection, one position per partition and version.
CREATE SCHEMA IF NOT EXISTS kinolog;
CREATE TABLE IF NOT EXISTS kinolog.projections (
    name text PRIMARY KEY,
    version integer NOT NULL,
    digest text NOT NULL
);
CREATE TABLE IF NOT EXISTS kinolog.positions (
    name text NOT NULL,
    version integer NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    folded bigint NOT NULL DEFAULT 0,
    event_time timestamptz,
    PRIMARY KEY (name, version, topic, partition)
);
CREATE TABLE IF NOT EXISTS kinolog.versions (
    name text NOT NULL,
    version integer NOT NULL,
    digest text NOT NULL,
    serves_from timestamptz,
    codes text[],
    rules jsonb,
    PRIMARY KEY (name, version)
);
-- Decisions of processes that their rows do not show yet, the last one of each subject; whatever version serves.
CREATE TABLE IF NOT EXISTS kinolog.decided (
    process text NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (process, rule, subject)
);
-- for installations that were made before they were kept; codes are unknown there
ALTER TABLE kinolog.versions ADD COLUMN IF NOT EXISTS serves_from timestamptz;
ALTER TABLE kinolog.versions ADD COLUMN IF NOT EXISTS codes text[];
-- None in versions from before rules were kept: they were made with the defaults
ALTER TABLE kinolog.versions ADD COLUMN IF NOT EXISTS rules jsonb;

-- name: lock_installation
-- Serialises installs of several processes that start at once.
SELECT pg_advisory_xact_lock(hashtext('kinolog.projections'));

-- name: lock_rebuild
-- One background rebuild of a projection at a time.
SELECT pg_advisory_lock(hashtext('kinolog.rebuild.' || %(name)s));

-- name: unlock_rebuild
SELECT pg_advisory_unlock(hashtext('kinolog.rebuild.' || %(name)s));

-- name: is_installed
SELECT to_regclass('kinolog.projections') IS NOT NULL;

-- name: any_projection
SELECT name FROM kinolog.projections LIMIT 1;

-- name: active
SELECT version, digest FROM kinolog.projections WHERE name = %(name)s;

-- name: active_for_share
-- The version for live writes; waits for a flip in progress.
SELECT version FROM kinolog.projections WHERE name = %(name)s FOR SHARE;

-- name: active_for_update
SELECT version, digest FROM kinolog.projections WHERE name = %(name)s FOR UPDATE;

-- name: versions
SELECT version, digest, serves_from, codes FROM kinolog.versions WHERE name = %(name)s ORDER BY version;

-- name: codes
SELECT codes FROM kinolog.versions WHERE name = %(name)s AND version = %(version)s;

-- name: rules
SELECT rules FROM kinolog.versions WHERE name = %(name)s AND version = %(version)s;

-- name: serving_rules
SELECT rules FROM kinolog.versions JOIN kinolog.projections USING (name, version) WHERE name = %(name)s;

-- name: add_version
INSERT INTO kinolog.versions (name, version, digest, codes, rules)
VALUES (%(name)s, %(version)s, %(digest)s, ARRAY[%(code)s], %(rules)s::jsonb)
ON CONFLICT (name, version) DO UPDATE SET digest = excluded.digest, codes = excluded.codes, rules = excluded.rules;

-- name: add_code
-- From now on this code folds into the version, too.
UPDATE kinolog.versions SET codes = codes || %(code)s::text
WHERE name = %(name)s AND version = %(version)s AND %(code)s != ALL (codes);

-- name: activate
WITH begun AS (UPDATE kinolog.versions SET serves_from = now() WHERE name = %(name)s AND version = %(version)s)
INSERT INTO kinolog.projections (name, version, digest) VALUES (%(name)s, %(version)s, %(digest)s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, digest = excluded.digest;

-- name: add_position
INSERT INTO kinolog.positions (name, version, topic, partition) VALUES (%(name)s, %(version)s, %(topic)s, %(partition)s)
ON CONFLICT DO NOTHING;

-- name: forget_version
WITH gone AS (DELETE FROM kinolog.versions WHERE name = %(name)s AND version = %(version)s)
DELETE FROM kinolog.positions WHERE name = %(name)s AND version = %(version)s;

-- name: positions
SELECT topic, partition, position, folded, event_time FROM kinolog.positions
WHERE name = %(name)s AND version = %(version)s ORDER BY topic, partition;

-- name: lock_positions
SELECT FROM kinolog.positions WHERE name = %(name)s AND version = %(version)s ORDER BY topic, partition FOR UPDATE;

-- name: active_positions
SELECT topic, partition, position FROM kinolog.positions JOIN kinolog.projections USING (name, version)
WHERE name = %(name)s ORDER BY topic, partition;

-- name: every_position
SELECT name, topic, partition, position FROM kinolog.positions JOIN kinolog.projections USING (name, version)
ORDER BY name, topic, partition;

-- name: newest
SELECT max(event_time) FROM kinolog.positions JOIN kinolog.projections USING (name, version) WHERE name = %(name)s;

-- name: move_position
-- Compare-and-set: a batch must start exactly where the stored position ends.
UPDATE kinolog.positions
SET position = %(next)s, folded = folded + %(folded)s, event_time = greatest(event_time, %(event_time)s)
WHERE name = %(name)s AND version = %(version)s AND topic = %(topic)s AND partition = %(partition)s
  AND position = %(start)s;
