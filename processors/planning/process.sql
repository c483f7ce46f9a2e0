-- name: create
-- Where each video is between upload and publication, and what was run again of it; see process.py and reruns.py.
CREATE TABLE videos (
    video_id text PRIMARY KEY,
    source jsonb,
    priority text NOT NULL,
    state text NOT NULL,
    round integer NOT NULL,
    probe jsonb,
    plan jsonb,
    job_ids jsonb NOT NULL,
    retried jsonb,
    retry text,
    failed_job text,
    seen jsonb NOT NULL,
    made jsonb,
    lost jsonb,
    queued jsonb NOT NULL,
    settings jsonb,
    fault jsonb
);
CREATE INDEX videos_undecided ON videos (video_id) WHERE state IN ('working', 'retrying');
CREATE TABLE reruns (
    job_id text PRIMARY KEY,
    spec jsonb NOT NULL,
    epoch bigint NOT NULL,
    worker_id text,
    seconds double precision,
    failure jsonb
);

-- name: undecided
-- Videos that may need a decision without a new event.
SELECT video_id FROM planning.videos WHERE state IN ('working', 'retrying');
