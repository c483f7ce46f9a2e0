-- name: create
CREATE TABLE jobs (
    job_id text PRIMARY KEY,
    video_id text NOT NULL,
    pool text NOT NULL,
    kind text NOT NULL,
    what text NOT NULL,
    priority text NOT NULL,
    status text NOT NULL,
    chunk bigint,
    renditions jsonb NOT NULL,
    worker_id text,
    epoch bigint NOT NULL,
    attempt bigint NOT NULL,
    queued_at timestamptz,
    claimed_at timestamptz,
    retry_at timestamptz,
    lease_expires_at timestamptz,
    ended_at timestamptz,
    failure jsonb,
    made jsonb,
    seen jsonb NOT NULL
);
CREATE INDEX ON jobs (video_id, queued_at, job_id);
CREATE INDEX ON jobs (status, queued_at DESC, job_id DESC);
CREATE INDEX ON jobs (queued_at DESC, job_id DESC);
CREATE INDEX ON jobs (ended_at DESC, job_id) WHERE kind = 'encode' AND status IN ('completed', 'failed');
CREATE INDEX ON jobs (pool, kind, status, queued_at) WHERE status IN ('queued', 'claimed', 'retrying');

CREATE TABLE attempts (
    job_id text NOT NULL,
    epoch bigint NOT NULL,
    attempt bigint NOT NULL,
    video_id text NOT NULL,
    worker_id text NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    outcome text NOT NULL,
    failure jsonb,
    PRIMARY KEY (job_id, epoch)
);

CREATE TABLE pauses (
    pool text NOT NULL,
    worker_id text NOT NULL,
    drain boolean NOT NULL,
    reason text NOT NULL,
    paused_at timestamptz,
    seen jsonb NOT NULL,
    PRIMARY KEY (pool, worker_id)
);

-- name: pauses
SELECT to_json(p)::text FROM jobs.pauses p WHERE paused_at IS NOT NULL ORDER BY pool, worker_id;

-- name: listing
-- Jobs, newest first, after a cursor (queued_at, job_id), with optional filters.
SELECT to_json(j)::text FROM (
    SELECT * FROM jobs.jobs
    WHERE (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(video_id)s::text IS NULL OR video_id = %(video_id)s)
      AND (%(kind)s::text IS NULL OR kind = %(kind)s)
      AND (%(pool)s::text IS NULL OR pool = %(pool)s)
      AND (%(chunk)s::bigint IS NULL OR chunk = %(chunk)s)
      AND (%(rendition)s::text IS NULL OR renditions ? %(rendition)s)
      AND (%(code)s::text IS NULL OR failure ->> 'code' = %(code)s)
      AND (queued_at, job_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY queued_at DESC, job_id DESC
    LIMIT %(limit)s
) j;

-- name: of_video
SELECT to_json(j)::text FROM jobs.jobs j WHERE video_id = %(video_id)s ORDER BY queued_at, job_id;

-- name: by_part
-- Ids that begin or end with a part. Scans every row: people ask rarely and can wait.
SELECT job_id FROM jobs.jobs
WHERE starts_with(job_id, %(part)s) OR right(job_id, length(%(part)s)) = %(part)s ORDER BY job_id LIMIT 2;

-- name: by_id
SELECT to_json(j)::text FROM jobs.jobs j WHERE job_id = %(job_id)s;

-- name: attempts
SELECT to_json(a)::text FROM jobs.attempts a WHERE job_id = %(job_id)s ORDER BY epoch;

-- name: unaccepted
-- Attempts that ended between two moments without an accepted result, and their jobs.
SELECT to_json(a)::text, to_json(j)::text FROM jobs.attempts a JOIN jobs.jobs j USING (job_id)
WHERE a.outcome NOT IN ('running', 'completed') AND a.ended_at >= %(since)s AND a.ended_at < %(before)s
ORDER BY a.ended_at, a.job_id, a.epoch;

-- name: transcoding
SELECT count(*) FROM jobs.jobs WHERE status = 'claimed' AND kind = 'encode';

-- name: counts
SELECT status, count(*) FROM jobs.jobs GROUP BY status ORDER BY status;
