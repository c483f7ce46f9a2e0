-- name: create
SELECT pg_advisory_xact_lock(hashtext('periodic_keys'));
CREATE SCHEMA IF NOT EXISTS periodic_keys;
CREATE TABLE IF NOT EXISTS periodic_keys.keys (
    purpose text NOT NULL,
    period date NOT NULL,
    key bytea NOT NULL,
    PRIMARY KEY (purpose, period)
);

-- name: forget
DELETE FROM periodic_keys.keys WHERE purpose = %(purpose)s AND period < %(before)s;

-- name: add
INSERT INTO periodic_keys.keys (purpose, period, key) VALUES (%(purpose)s, %(period)s, %(key)s) ON CONFLICT DO NOTHING;

-- name: find
SELECT key FROM periodic_keys.keys WHERE purpose = %(purpose)s AND period = %(period)s;
