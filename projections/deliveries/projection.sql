-- name: create
CREATE TABLE notices (
    event_id text PRIMARY KEY,
    position bigint NOT NULL,
    event jsonb NOT NULL,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX ON notices (position);
CREATE INDEX ON notices (occurred_at);
CREATE TABLE endpoints (
    endpoint_id text PRIMARY KEY,
    version bigint NOT NULL,
    name text NOT NULL,
    origin text NOT NULL,
    events jsonb NOT NULL,
    active boolean NOT NULL,
    format text NOT NULL,
    headers jsonb NOT NULL,
    fingerprint text NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted boolean NOT NULL,
    wishes jsonb NOT NULL,
    sequence bigint NOT NULL,
    cursor bigint NOT NULL,
    moved boolean NOT NULL,
    failing text,
    attempt bigint NOT NULL,
    refusals bigint NOT NULL,
    retry_at timestamptz,
    breaker text NOT NULL,
    until timestamptz,
    away bigint NOT NULL,
    gone bigint NOT NULL,
    answered jsonb NOT NULL,
    delivered bigint NOT NULL,
    failed bigint NOT NULL,
    attempted_at timestamptz,
    delivered_at timestamptz,
    test jsonb
);
CREATE TABLE deliveries (
    delivery_id text PRIMARY KEY,
    endpoint_id text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    position bigint NOT NULL,
    status text NOT NULL,
    attempts bigint NOT NULL,
    response_status bigint,
    error text NOT NULL,
    answer text NOT NULL,
    duration_ms bigint NOT NULL,
    created_at timestamptz NOT NULL,
    attempted_at timestamptz NOT NULL,
    retry_at timestamptz,
    delivered_at timestamptz,
    sequence bigint NOT NULL
);
CREATE INDEX ON deliveries (endpoint_id, attempted_at DESC, delivery_id DESC);

-- name: endpoints
-- Endpoints that are not deleted, oldest first.
SELECT to_json(e)::text FROM deliveries.endpoints e WHERE NOT deleted AND version > 0 ORDER BY created_at, endpoint_id;

-- name: endpoint
SELECT to_json(e)::text FROM deliveries.endpoints e WHERE endpoint_id = %(endpoint_id)s AND NOT deleted AND version > 0;

-- name: every_endpoint
-- Endpoints with their facts, also without a definition or deleted, for the deliverer.
SELECT to_json(e)::text FROM deliveries.endpoints e;

-- name: notices_from
-- Notices from a position on, in order.
SELECT position, event::text FROM deliveries.notices WHERE position >= %(position)s ORDER BY position LIMIT %(limit)s;

-- name: notice
SELECT position, event::text FROM deliveries.notices WHERE event_id = %(event_id)s;

-- name: position_since
-- The first position of a notice of an event at or after a time.
SELECT min(position) FROM deliveries.notices WHERE occurred_at >= %(since)s;

-- name: end
SELECT coalesce(max(position) + 1, 0) FROM deliveries.notices;

-- name: counts
-- Numbers of endpoints and of deliveries since a time.
SELECT (SELECT count(*) FROM deliveries.endpoints WHERE NOT deleted AND version > 0),
       (SELECT count(*) FROM deliveries.endpoints WHERE NOT deleted AND active AND gone < version),
       count(*) FILTER (WHERE status = 'retrying'),
       count(*) FILTER (WHERE status IN ('failed', 'given_up')),
       count(*) FILTER (WHERE attempted_at >= %(since)s),
       count(*) FILTER (WHERE delivered_at >= %(since)s)
FROM deliveries.deliveries;

-- name: page
-- Deliveries of an endpoint, last attempted first, after a cursor (attempted_at, delivery_id).
SELECT to_json(d)::text FROM deliveries.deliveries d
WHERE endpoint_id = %(endpoint_id)s
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND attempted_at >= %(since)s
  AND (attempted_at, delivery_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
ORDER BY attempted_at DESC, delivery_id DESC
LIMIT %(limit)s;

-- name: delivery
SELECT to_json(d)::text FROM deliveries.deliveries d
WHERE endpoint_id = %(endpoint_id)s AND delivery_id = %(delivery_id)s AND attempted_at >= %(since)s;
