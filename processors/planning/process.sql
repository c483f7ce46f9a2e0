-- name: create
-- Where each video is between upload and publication; see planning.py.
CREATE TABLE videos (
    video_id text PRIMARY KEY,
    source jsonb,
    priority text NOT NULL,
    round integer NOT NULL,
    submitted jsonb NOT NULL,
    probe jsonb,
    plan jsonb,
    completed jsonb,
    thumbnail jsonb,
    verified jsonb,
    failed_job text,
    failure jsonb,
    reruns jsonb,
    state text NOT NULL
);
