-- name: create
-- Names, hashes and digests of people: not on the log, which is kept for ever, and in no backup (ADR 32).
SELECT pg_advisory_xact_lock(hashtext('people'));
CREATE SCHEMA IF NOT EXISTS people;
CREATE TABLE IF NOT EXISTS people.accounts (
    user_id text PRIMARY KEY,
    name text NOT NULL,
    folded text NOT NULL UNIQUE,
    hash text,
    made_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS people.invitations (
    digest bytea PRIMARY KEY,
    invitation_id text NOT NULL,
    purpose text NOT NULL,
    role text,
    user_id text NOT NULL,
    maker text NOT NULL,
    expires_at timestamptz NOT NULL
);
ALTER TABLE people.invitations ADD COLUMN IF NOT EXISTS maker text NOT NULL DEFAULT '';  -- older links end: nobody made them
CREATE TABLE IF NOT EXISTS people.sessions (
    digest bytea PRIMARY KEY,
    session_id text NOT NULL UNIQUE,
    user_id text NOT NULL,
    opened_at timestamptz NOT NULL,
    used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS people.devices (
    digest bytea PRIMARY KEY,
    user_id text NOT NULL,
    known_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS people.tokens (
    digest bytea PRIMARY KEY,
    token_id text NOT NULL UNIQUE,
    prefix text NOT NULL,
    used_at timestamptz
);

-- name: add_account
INSERT INTO people.accounts (user_id, name, folded, made_at) VALUES (%(user_id)s, %(name)s, %(folded)s, %(now)s)
ON CONFLICT DO NOTHING
RETURNING user_id;

-- name: account
SELECT user_id, name, hash FROM people.accounts WHERE folded = %(folded)s;

-- name: account_of
SELECT user_id, name, hash FROM people.accounts WHERE user_id = %(user_id)s;

-- name: names
SELECT user_id, name FROM people.accounts;

-- name: set_hash
-- Links for a new password end: one that leaked would undo the change.
WITH links AS (DELETE FROM people.invitations WHERE user_id = %(user_id)s)
UPDATE people.accounts SET hash = %(hash)s WHERE user_id = %(user_id)s;

-- name: forget
WITH a AS (DELETE FROM people.sessions WHERE user_id = %(user_id)s),
     b AS (DELETE FROM people.devices WHERE user_id = %(user_id)s),
     c AS (DELETE FROM people.invitations WHERE user_id = %(user_id)s)
DELETE FROM people.accounts WHERE user_id = %(user_id)s;

-- name: keep_invitation
WITH old AS (DELETE FROM people.invitations WHERE expires_at < %(now)s OR (purpose = 'setup' AND %(purpose)s = 'setup'))
INSERT INTO people.invitations (digest, invitation_id, purpose, role, user_id, maker, expires_at)
VALUES (%(digest)s, %(invitation_id)s, %(purpose)s, %(role)s, %(user_id)s, %(maker)s, %(expires_at)s);

-- name: invitation
SELECT invitation_id, purpose, role, user_id, maker FROM people.invitations WHERE digest = %(digest)s AND expires_at > %(now)s;

-- name: take_invitation
-- Of two requests with one link, the second finds none.
DELETE FROM people.invitations WHERE digest = %(digest)s AND expires_at > %(now)s RETURNING invitation_id;

-- name: open_session
WITH old AS (DELETE FROM people.sessions WHERE expires_at < %(now)s)
INSERT INTO people.sessions (digest, session_id, user_id, opened_at, used_at, expires_at)
VALUES (%(digest)s, %(session_id)s, %(user_id)s, %(now)s, %(now)s, %(expires_at)s);

-- name: session
SELECT session_id, user_id, opened_at, used_at FROM people.sessions WHERE digest = %(digest)s;

-- name: use_session
UPDATE people.sessions SET used_at = %(now)s WHERE session_id = %(session_id)s;

-- name: uses_of_sessions
SELECT session_id, used_at FROM people.sessions WHERE user_id = %(user_id)s;

-- name: end_session
DELETE FROM people.sessions WHERE session_id = %(session_id)s;

-- name: know_device
WITH old AS (DELETE FROM people.devices WHERE known_at < %(before)s)
INSERT INTO people.devices (digest, user_id, known_at) VALUES (%(digest)s, %(user_id)s, %(now)s)
ON CONFLICT (digest) DO UPDATE SET known_at = excluded.known_at, user_id = excluded.user_id;

-- name: device
SELECT user_id FROM people.devices WHERE digest = %(digest)s;

-- name: add_token
INSERT INTO people.tokens (digest, token_id, prefix) VALUES (%(digest)s, %(token_id)s, %(prefix)s);

-- name: token
SELECT token_id FROM people.tokens WHERE digest = %(digest)s;

-- name: use_token
UPDATE people.tokens SET used_at = %(now)s WHERE token_id = %(token_id)s;

-- name: remove_token
DELETE FROM people.tokens WHERE token_id = %(token_id)s;

-- name: uses_of_tokens
SELECT token_id, prefix, used_at FROM people.tokens;
