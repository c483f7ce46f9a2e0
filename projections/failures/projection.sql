-- name: create
CREATE TABLE failures (
    failure_id text PRIMARY KEY,
    job_id text NOT NULL,
    epoch bigint NOT NULL,
    attempt bigint NOT NULL,
    video_id text NOT NULL,
    pool text NOT NULL,
    worker_id text,
    kind text,
    stage text NOT NULL,
    category text NOT NULL,
    code text NOT NULL,
    failure jsonb NOT NULL,
    final boolean NOT NULL,
    failed_at timestamptz NOT NULL,
    succeeded_at timestamptz,
    event_id text NOT NULL
);
CREATE INDEX ON failures (failed_at DESC, failure_id DESC);
CREATE INDEX ON failures (job_id);
CREATE INDEX ON failures (video_id);
CREATE INDEX ON failures (stage, category, code);

CREATE TABLE successes (
    video_id text NOT NULL,
    stage text NOT NULL,
    succeeded_at timestamptz NOT NULL,
    PRIMARY KEY (video_id, stage)
);

CREATE TABLE resolutions (
    failure_id text PRIMARY KEY,
    resolved_at timestamptz NOT NULL,
    reason text NOT NULL
);

CREATE TABLE reruns (
    rerun_id text PRIMARY KEY,
    failure_id text NOT NULL,
    verdict text NOT NULL,
    worker text NOT NULL,
    seconds double precision NOT NULL,
    failure jsonb,
    rerun_at timestamptz NOT NULL
);
CREATE INDEX ON reruns (failure_id, rerun_at);

-- name: attempts
-- Prefix of the queries below: failed attempts, each with its first resolution, by a person or a success. A video's
-- verification resolves all of its stages; any other job only its own attempts, an analysis also earlier ones of its video.
WITH attempts AS (
    SELECT f.*, f.attempt - 1 AS retry_count, least(r.resolved_at, s.success_at) AS resolved_at,
           CASE WHEN r.resolved_at <= coalesce(s.success_at, 'infinity') THEN 'person'
                WHEN s.success_at IS NOT NULL THEN 'success' END AS resolved_by,
           r.reason
    FROM failures.failures f
    LEFT JOIN failures.resolutions r USING (failure_id)
    LEFT JOIN failures.successes own
        ON own.video_id = f.video_id AND own.stage = f.stage AND own.succeeded_at > f.failed_at
    LEFT JOIN failures.successes whole
        ON whole.video_id = f.video_id AND whole.stage = 'post_processing' AND whole.succeeded_at > f.failed_at
    CROSS JOIN LATERAL (SELECT least(f.succeeded_at, own.succeeded_at, whole.succeeded_at)) AS s (success_at)
)

-- name: listing
-- Failed attempts, newest first, after a cursor (failed_at, failure_id).
SELECT to_json(a)::text FROM (
    SELECT * FROM attempts
    WHERE (%(stage)s::text IS NULL OR stage = %(stage)s)
      AND (%(category)s::text IS NULL OR category = %(category)s)
      AND (%(code)s::text IS NULL OR code = %(code)s)
      AND (%(video_id)s::text IS NULL OR video_id = %(video_id)s)
      AND (%(job_id)s::text IS NULL OR job_id = %(job_id)s)
      AND (%(resolved)s::boolean IS NULL OR (resolved_at IS NOT NULL) = %(resolved)s)
      AND failed_at >= coalesce(%(since)s::timestamptz, '-infinity')
      AND (failed_at, failure_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY failed_at DESC, failure_id DESC
    LIMIT %(limit)s
) a;

-- name: by_part
-- Failures of jobs whose id begins with the text before the colon, at the epoch after it.
SELECT failure_id FROM failures.failures
WHERE starts_with(failure_id, split_part(%(part)s, ':', 1)) AND epoch::text = split_part(%(part)s, ':', 2)
ORDER BY failure_id LIMIT 2;

-- name: by_id
SELECT to_json(a)::text FROM attempts a WHERE failure_id = %(failure_id)s;

-- name: reruns
SELECT to_json(r)::text FROM failures.reruns r WHERE failure_id = %(failure_id)s ORDER BY rerun_at, rerun_id;

-- name: counts
-- Numbers of attempts that failed since a moment, and of resolved ones among them, by stage and category.
SELECT to_json(c)::text FROM (
    SELECT stage, category, count(*) AS total, count(resolved_at) AS resolved
    FROM attempts WHERE failed_at >= %(since)s
    GROUP BY stage, category ORDER BY stage, category
) c;

-- name: patterns
-- Unresolved failures of all time, the most frequent first; the sample holds at most three distinct sentences.
SELECT to_json(p)::text FROM (
    SELECT stage, category, code, count(*) AS occurrences, max(failed_at) AS latest_occurrence,
           array_to_string((array_agg(DISTINCT failure->>'message'))[1:3], ' | ') AS sample_message
    FROM attempts WHERE resolved_at IS NULL
    GROUP BY stage, category, code ORDER BY occurrences DESC, latest_occurrence DESC, stage, category, code
    LIMIT %(limit)s
) p;
