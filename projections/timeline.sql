-- name: create
CREATE TABLE entries (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    video_id text,
    job_id text,
    id text NOT NULL,
    type text NOT NULL,
    time timestamptz NOT NULL,
    source text NOT NULL,
    correlationid text NOT NULL,
    causationid text,
    summary text NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX ON entries (video_id, time) WHERE video_id IS NOT NULL;
CREATE INDEX ON entries (job_id, time) WHERE job_id IS NOT NULL;

-- name: of_video
SELECT to_json(e)::text FROM (
    SELECT * FROM timeline.entries WHERE video_id = %(subject)s
    ORDER BY time, topic, partition, "offset" LIMIT %(limit)s
) e;

-- name: of_job
SELECT to_json(e)::text FROM (
    SELECT * FROM timeline.entries WHERE job_id = %(subject)s
    ORDER BY time, topic, partition, "offset" LIMIT %(limit)s
) e;
