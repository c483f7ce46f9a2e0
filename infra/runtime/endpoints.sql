-- name: create
-- Addresses, headers and secrets of endpoints outside, sealed; see endpoints.py.
SELECT pg_advisory_xact_lock(hashtext('webhooks'));
CREATE SCHEMA IF NOT EXISTS webhooks;
CREATE TABLE IF NOT EXISTS webhooks.endpoints (
    endpoint_id text NOT NULL,
    fingerprint text NOT NULL,
    kept text NOT NULL,
    PRIMARY KEY (endpoint_id, fingerprint)
);

-- name: keep
INSERT INTO webhooks.endpoints (endpoint_id, fingerprint, kept) VALUES (%(endpoint_id)s, %(fingerprint)s, %(kept)s)
ON CONFLICT DO NOTHING;

-- name: find
SELECT kept FROM webhooks.endpoints WHERE endpoint_id = %(endpoint_id)s AND fingerprint = %(fingerprint)s;

-- name: forget
-- Delete every version of an endpoint but some.
DELETE FROM webhooks.endpoints WHERE endpoint_id = %(endpoint_id)s AND fingerprint <> ALL(%(but)s);
