-- name: create
-- Viewers: a person, or a browser by its cookie. Their ids on the log cannot be traced back without these rows, which are in no backup.
SELECT pg_advisory_xact_lock(hashtext('viewers'));
CREATE SCHEMA IF NOT EXISTS viewers;
CREATE TABLE IF NOT EXISTS viewers.viewers (
    subject bytea PRIMARY KEY,
    salt bytea NOT NULL,
    viewer_id text NOT NULL UNIQUE,
    user_id text
);

-- name: add
INSERT INTO viewers.viewers (subject, salt, viewer_id, user_id) VALUES (%(subject)s, %(salt)s, %(viewer_id)s, %(user_id)s)
ON CONFLICT DO NOTHING;

-- name: find
SELECT viewer_id FROM viewers.viewers WHERE subject = %(subject)s;

-- name: users
SELECT viewer_id, user_id FROM viewers.viewers WHERE viewer_id = ANY(%(viewer_ids)s) AND user_id IS NOT NULL;

-- name: of_user
SELECT viewer_id FROM viewers.viewers WHERE user_id = %(user_id)s;

-- name: known
SELECT viewer_id FROM viewers.viewers WHERE viewer_id = %(viewer_id)s;

-- name: forget
DELETE FROM viewers.viewers WHERE viewer_id = %(viewer_id)s RETURNING viewer_id;
