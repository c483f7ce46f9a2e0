-- name: create
CREATE TABLE workers (
    worker_id text PRIMARY KEY,
    name text,
    pool text,
    version text,
    capabilities jsonb,
    cpu_count bigint,
    memory_bytes bigint,
    cards jsonb NOT NULL,
    trials jsonb NOT NULL,
    registered_at timestamptz,
    drained_at timestamptz,
    offline_at timestamptz,
    quarantined_until timestamptz,
    heartbeat_at timestamptz,
    status text,
    job_ids jsonb NOT NULL,
    seen jsonb NOT NULL
);
CREATE INDEX ON workers (registered_at DESC);

-- name: listing
SELECT to_json(w)::text FROM (SELECT * FROM workers.workers ORDER BY registered_at DESC NULLS LAST, worker_id LIMIT %(limit)s) w;

-- name: pools
SELECT DISTINCT pool FROM workers.workers WHERE pool IS NOT NULL ORDER BY pool;

-- name: by_part
-- Ids that begin or end with a part. Scans every row: people ask rarely and can wait.
SELECT worker_id FROM workers.workers
WHERE starts_with(worker_id, %(part)s) OR right(worker_id, length(%(part)s)) = %(part)s ORDER BY worker_id LIMIT 2;

-- name: by_id
SELECT to_json(w)::text FROM workers.workers w WHERE worker_id = %(worker_id)s;

-- name: silent
-- Workers silent since a moment that have neither signed off nor been reported offline since.
SELECT to_json(w)::text FROM workers.workers w
WHERE drained_at IS NULL AND greatest(heartbeat_at, registered_at) < %(since)s
  AND (offline_at IS NULL OR offline_at < greatest(heartbeat_at, registered_at))
ORDER BY worker_id LIMIT %(limit)s;
