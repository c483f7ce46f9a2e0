-- name: create
-- Keys of workers outside the cluster: the one thing that is not on the log, for their hashes must not be (ADR 0011).
SELECT pg_advisory_xact_lock(hashtext('worker_keys'));
CREATE SCHEMA IF NOT EXISTS worker_keys;
CREATE TABLE IF NOT EXISTS worker_keys.keys (
    key_id uuid PRIMARY KEY,
    worker_id uuid NOT NULL,
    purpose text NOT NULL,
    prefix text NOT NULL,
    hash text NOT NULL,
    name text NOT NULL,
    pools text[] NOT NULL,
    kinds text[] NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at timestamptz,
    changed_at timestamptz
);
CREATE INDEX IF NOT EXISTS keys_prefix ON worker_keys.keys (prefix);
CREATE INDEX IF NOT EXISTS keys_changed ON worker_keys.keys (changed_at);
-- A revocation bites at once; the log may be away then, and is told later.
ALTER TABLE worker_keys.keys ADD COLUMN IF NOT EXISTS revoked_because text;
ALTER TABLE worker_keys.keys ADD COLUMN IF NOT EXISTS untold boolean;
CREATE INDEX IF NOT EXISTS keys_untold ON worker_keys.keys (revoked_at) WHERE untold;

-- name: add
INSERT INTO worker_keys.keys (key_id, worker_id, purpose, prefix, hash, name, pools, kinds, issued_at, expires_at)
VALUES (%(key_id)s, %(worker_id)s, %(purpose)s, %(prefix)s, %(hash)s, %(name)s, %(pools)s, %(kinds)s, %(issued_at)s, %(expires_at)s);

-- name: with_prefix
SELECT to_json(k)::text, hash FROM worker_keys.keys k WHERE prefix = %(prefix)s;

-- name: changed
-- Keys that were revoked or got another end in the last seconds (not those that were issued: who proved one is right); who asks more often than that misses none.
SELECT key_id::text FROM worker_keys.keys WHERE changed_at > clock_timestamp() - %(seconds)s * interval '1 second';

-- name: revoke
-- Keys of a worker, or one key; each is revoked once.
UPDATE worker_keys.keys k SET revoked_at = %(now)s, revoked_because = %(reason)s, untold = true, changed_at = clock_timestamp()
WHERE revoked_at IS NULL AND (worker_id::text = %(which)s OR key_id::text = %(which)s)
RETURNING to_json(k)::text;

-- name: unpublished
SELECT to_json(k)::text, revoked_because FROM worker_keys.keys k WHERE untold ORDER BY revoked_at, key_id LIMIT 100;

-- name: mark_published
UPDATE worker_keys.keys SET untold = NULL WHERE key_id::text = ANY(%(key_ids)s);

-- name: expire
UPDATE worker_keys.keys SET expires_at = least(coalesce(expires_at, %(at)s), %(at)s), changed_at = clock_timestamp()
WHERE key_id::text = %(key_id)s;

-- name: used
UPDATE worker_keys.keys SET used_at = %(now)s WHERE key_id::text = ANY(%(key_ids)s);

-- name: listing
SELECT to_json(k)::text FROM worker_keys.keys k ORDER BY issued_at DESC, key_id LIMIT %(limit)s;

-- name: dump
SELECT coalesce(json_agg(k), '[]')::text FROM (SELECT * FROM worker_keys.keys ORDER BY key_id) k;

-- name: load
INSERT INTO worker_keys.keys SELECT * FROM jsonb_populate_recordset(null::worker_keys.keys, %(rows)s::jsonb) ON CONFLICT DO NOTHING;
