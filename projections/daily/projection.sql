-- name: create
CREATE TABLE items (
    video_id text PRIMARY KEY,
    shard integer NOT NULL,
    size_bytes bigint NOT NULL,
    added_on date,
    gone_on date
);
CREATE TABLE library_days (
    day date NOT NULL,
    shard integer NOT NULL,
    added bigint NOT NULL,
    removed bigint NOT NULL,
    bytes_added bigint NOT NULL,
    bytes_removed bigint NOT NULL,
    PRIMARY KEY (day, shard)
);
CREATE TABLE failed (
    job_id text NOT NULL,
    epoch bigint NOT NULL,
    shard integer NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (job_id, epoch)
);
CREATE TABLE failed_days (
    day date NOT NULL,
    shard integer NOT NULL,
    failures bigint NOT NULL,
    PRIMARY KEY (day, shard)
);
CREATE TABLE closings (
    day date PRIMARY KEY,
    zone text NOT NULL,
    closed_at timestamptz NOT NULL,
    figures jsonb NOT NULL,
    positions jsonb NOT NULL,
    last_closed_at timestamptz NOT NULL,
    last_figures jsonb NOT NULL,
    last_positions jsonb NOT NULL
);
