-- name: create
-- Second factors, passkeys and accounts at providers; secrets and digests, so they are not on the log (ADR 0033).
SELECT pg_advisory_xact_lock(hashtext('people'));
CREATE SCHEMA IF NOT EXISTS people;
CREATE TABLE IF NOT EXISTS people.totp (
    user_id text PRIMARY KEY,
    secret text NOT NULL,
    begun_at timestamptz NOT NULL,
    proven_at timestamptz,
    step bigint NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS people.recovery_codes (
    user_id text NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (user_id, digest)
);
CREATE TABLE IF NOT EXISTS people.passkeys (
    credential_id bytea PRIMARY KEY,
    passkey_id text NOT NULL UNIQUE,
    user_id text NOT NULL,
    name text NOT NULL,
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    added_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX IF NOT EXISTS passkeys_user ON people.passkeys (user_id);
CREATE TABLE IF NOT EXISTS people.links (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id text NOT NULL,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE TABLE IF NOT EXISTS people.challenges (
    digest bytea PRIMARY KEY,
    purpose text NOT NULL,
    holder text NOT NULL,
    data text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS challenges_expiry ON people.challenges (expires_at);

-- name: begin_totp
-- A secret that was shown and never proven is replaced; a proven one stays.
INSERT INTO people.totp AS t (user_id, secret, begun_at) VALUES (%(user_id)s, %(secret)s, %(now)s)
ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, begun_at = excluded.begun_at WHERE t.proven_at IS NULL
RETURNING user_id;

-- name: totp
SELECT secret, begun_at, proven_at FROM people.totp WHERE user_id = %(user_id)s;

-- name: prove_totp
UPDATE people.totp SET proven_at = %(now)s, step = %(step)s
WHERE user_id = %(user_id)s AND begun_at = %(begun_at)s AND proven_at IS NULL
RETURNING user_id;

-- name: accept_step
-- Of two requests with one code, the second finds the step taken.
UPDATE people.totp SET step = %(step)s WHERE user_id = %(user_id)s AND proven_at IS NOT NULL AND step < %(step)s RETURNING user_id;

-- name: remove_totp
WITH codes AS (DELETE FROM people.recovery_codes WHERE user_id = %(user_id)s)
DELETE FROM people.totp WHERE user_id = %(user_id)s RETURNING user_id;

-- name: replace_codes
WITH old AS (DELETE FROM people.recovery_codes WHERE user_id = %(user_id)s)
INSERT INTO people.recovery_codes (user_id, digest) SELECT %(user_id)s, unnest(%(digests)s::bytea[]);

-- name: has_code
SELECT 1 FROM people.recovery_codes WHERE user_id = %(user_id)s AND digest = %(digest)s;

-- name: spend_code
DELETE FROM people.recovery_codes WHERE user_id = %(user_id)s AND digest = %(digest)s RETURNING user_id;

-- name: codes_left
SELECT count(*) FROM people.recovery_codes WHERE user_id = %(user_id)s;

-- name: add_passkey
INSERT INTO people.passkeys (credential_id, passkey_id, user_id, name, public_key, sign_count, added_at)
VALUES (%(credential_id)s, %(passkey_id)s, %(user_id)s, %(name)s, %(public_key)s, %(sign_count)s, %(now)s)
ON CONFLICT DO NOTHING
RETURNING passkey_id;

-- name: passkeys
SELECT passkey_id, name, added_at, used_at, credential_id FROM people.passkeys WHERE user_id = %(user_id)s ORDER BY added_at, passkey_id;

-- name: passkey
SELECT user_id, passkey_id, public_key, sign_count FROM people.passkeys WHERE credential_id = %(credential_id)s;

-- name: use_passkey
-- A count that does not grow is a copy of the key, or the same answer twice; keys that do not count send 0.
UPDATE people.passkeys SET sign_count = %(sign_count)s, used_at = %(now)s
WHERE credential_id = %(credential_id)s AND (sign_count < %(sign_count)s OR (sign_count = 0 AND %(sign_count)s = 0))
RETURNING passkey_id;

-- name: remove_passkey
DELETE FROM people.passkeys WHERE user_id = %(user_id)s AND passkey_id = %(passkey_id)s RETURNING passkey_id;

-- name: remove_passkeys
DELETE FROM people.passkeys WHERE user_id = %(user_id)s RETURNING passkey_id;

-- name: link
INSERT INTO people.links (issuer, subject, user_id, linked_at) VALUES (%(issuer)s, %(subject)s, %(user_id)s, %(now)s)
ON CONFLICT (issuer, subject) DO NOTHING;

-- name: linked
SELECT user_id FROM people.links WHERE issuer = %(issuer)s AND subject = %(subject)s;

-- name: forget
WITH a AS (DELETE FROM people.totp WHERE user_id = %(user_id)s),
     b AS (DELETE FROM people.recovery_codes WHERE user_id = %(user_id)s),
     c AS (DELETE FROM people.passkeys WHERE user_id = %(user_id)s)
DELETE FROM people.links WHERE user_id = %(user_id)s;

-- name: keep_challenge
WITH old AS (DELETE FROM people.challenges WHERE expires_at < %(now)s)
INSERT INTO people.challenges (digest, purpose, holder, data, expires_at)
VALUES (%(digest)s, %(purpose)s, %(holder)s, %(data)s, %(expires_at)s);

-- name: take_challenge
-- Of two requests with one challenge, the second finds none.
DELETE FROM people.challenges
WHERE digest = %(digest)s AND purpose = %(purpose)s AND holder = %(holder)s AND expires_at > %(now)s
RETURNING data;
