-- name: create
CREATE TABLE jobs (
    job_id text PRIMARY KEY,
    video_id text NOT NULL,
    pool text NOT NULL,
    kind text NOT NULL,
    what text NOT NULL,
    priority text NOT NULL,
    status text NOT NULL,
    worker_id text,
    epoch integer NOT NULL,
    attempt integer NOT NULL,
    queued_at timestamptz,
    claimed_at timestamptz,
    retry_at timestamptz,
    lease_expires_at timestamptz,
    ended_at timestamptz,
    failure jsonb
);
CREATE INDEX ON jobs (video_id);
CREATE INDEX ON jobs (status, queued_at);
CREATE INDEX ON jobs (queued_at DESC, job_id DESC);

CREATE TABLE attempts (
    job_id text NOT NULL,
    epoch integer NOT NULL,
    attempt integer NOT NULL,
    video_id text NOT NULL,
    worker_id text NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    outcome text NOT NULL,
    failure jsonb,
    PRIMARY KEY (job_id, epoch)
);

-- name: listing
SELECT to_json(j)::text FROM (
    SELECT * FROM jobs.jobs
    WHERE (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(video_id)s::text IS NULL OR video_id = %(video_id)s)
      AND (%(kind)s::text IS NULL OR kind = %(kind)s)
      AND (queued_at, job_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY queued_at DESC, job_id DESC
    LIMIT %(limit)s
) j;

-- name: of_video
SELECT to_json(j)::text FROM jobs.jobs j WHERE video_id = %(video_id)s ORDER BY queued_at, job_id;

-- name: by_id
SELECT to_json(j)::text FROM jobs.jobs j WHERE job_id = %(job_id)s;

-- name: attempts
SELECT to_json(a)::text FROM jobs.attempts a WHERE job_id = %(job_id)s ORDER BY epoch;

-- name: counts
SELECT status, count(*) FROM jobs.jobs GROUP BY status ORDER BY status;
