-- name: create
SELECT pg_advisory_xact_lock(hashtext('client_keys'));
CREATE SCHEMA IF NOT EXISTS client_keys;
CREATE TABLE IF NOT EXISTS client_keys.keys (period date PRIMARY KEY, key bytea NOT NULL);

-- name: forget
DELETE FROM client_keys.keys WHERE period < %(before)s;

-- name: add
INSERT INTO client_keys.keys (period, key) VALUES (%(period)s, %(key)s) ON CONFLICT DO NOTHING;

-- name: find
SELECT key FROM client_keys.keys WHERE period = %(period)s;
