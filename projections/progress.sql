-- name: create
CREATE TABLE ticks (
    job_id text PRIMARY KEY,
    video_id text NOT NULL,
    worker_id text NOT NULL,
    epoch bigint NOT NULL,
    kind text NOT NULL,
    step text NOT NULL,
    percent double precision NOT NULL,
    frames bigint,
    speed double precision,
    rungs jsonb NOT NULL,
    ticked_at timestamptz NOT NULL
);
CREATE INDEX ON ticks (video_id);

-- name: of_video
SELECT to_json(t)::text FROM progress.ticks t WHERE video_id = %(video_id)s ORDER BY job_id;
