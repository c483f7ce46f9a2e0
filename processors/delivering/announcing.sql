-- name: create
-- Videos and workers that others are told about; see announcing.py.
CREATE TABLE subjects (
    subject_id text PRIMARY KEY,
    title text NOT NULL,
    slug text NOT NULL,
    filename text NOT NULL,
    streaming_format text,
    state text NOT NULL,
    archived boolean NOT NULL,
    rounds bigint NOT NULL,
    worker_name text NOT NULL,
    present boolean NOT NULL,
    registered_at timestamptz,
    numbered bigint NOT NULL,
    pending jsonb NOT NULL,
    announced bigint NOT NULL,
    seen jsonb NOT NULL,
    fault jsonb
);
CREATE INDEX subjects_pending ON subjects (subject_id) WHERE pending <> '[]';

-- name: undecided
-- Subjects of which something is still to be announced.
SELECT subject_id FROM announcing.subjects WHERE pending <> '[]';
