-- name: create
CREATE TABLE hosts (
    host text PRIMARY KEY,
    name text NOT NULL,
    sampled_at timestamptz NOT NULL,
    state jsonb NOT NULL,
    active_streams bigint,
    active_transcodes bigint
);
CREATE TABLE minutes (
    host text NOT NULL,
    slot integer NOT NULL,
    starts_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    figures jsonb NOT NULL,
    PRIMARY KEY (host, slot)
);
CREATE TABLE hours (
    host text NOT NULL,
    slot integer NOT NULL,
    starts_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    figures jsonb NOT NULL,
    PRIMARY KEY (host, slot)
);
CREATE TABLE days (
    host text NOT NULL,
    slot integer NOT NULL,
    starts_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    figures jsonb NOT NULL,
    PRIMARY KEY (host, slot)
);

-- name: latest
SELECT coalesce(json_agg(row_to_json(r)), '[]')::text FROM (
    SELECT host, name, sampled_at, state, active_streams, active_transcodes FROM hosts.hosts
    ORDER BY (active_streams IS NULL), sampled_at DESC, host LIMIT %(limit)s
) r;

-- name: by_id
SELECT coalesce(json_agg(row_to_json(h)), '[]')::text FROM hosts.hosts h WHERE host = %(host)s;

-- name: minutes
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.starts_at), '[]')::text FROM (
    SELECT host, slot, starts_at, until, figures FROM hosts.minutes WHERE host = %(host)s AND starts_at >= %(since)s
) r;

-- name: hours
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.starts_at), '[]')::text FROM (
    SELECT host, slot, starts_at, until, figures FROM hosts.hours WHERE host = %(host)s AND starts_at >= %(since)s
) r;

-- name: days
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.starts_at), '[]')::text FROM (
    SELECT host, slot, starts_at, until, figures FROM hosts.days WHERE host = %(host)s AND starts_at >= %(since)s
) r;
