-- name: create
CREATE TABLE sessions (
    session_id text PRIMARY KEY,
    viewer_id text NOT NULL,
    video_id text NOT NULL,
    shard integer NOT NULL,
    playback text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    first_ms bigint NOT NULL,
    position_ms bigint NOT NULL,
    furthest_ms bigint NOT NULL,
    media_ms bigint,
    quality text,
    codec text,
    resolution text,
    container text,
    client text,
    state text NOT NULL,
    rate double precision NOT NULL,
    start_up_ms bigint,
    stalled_ms bigint NOT NULL,
    switches bigint NOT NULL,
    errors bigint NOT NULL,
    ended_at timestamptz,
    "end" text,
    fault text,
    watched_ms bigint NOT NULL,
    bytes_served bigint NOT NULL,
    bytes_redirected bigint NOT NULL,
    watched jsonb NOT NULL,
    served jsonb NOT NULL,
    served_by jsonb NOT NULL
);
CREATE INDEX ON sessions (started_at DESC);
CREATE INDEX ON sessions (seen_at) WHERE ended_at IS NULL;
CREATE INDEX ON sessions (viewer_id, started_at DESC);
CREATE INDEX ON sessions (video_id, started_at DESC);
CREATE TABLE watching (
    viewer_id text NOT NULL,
    video_id text NOT NULL,
    shard integer NOT NULL,
    stints jsonb NOT NULL,
    older jsonb NOT NULL,
    days jsonb NOT NULL,
    PRIMARY KEY (viewer_id, video_id)
);
CREATE TABLE viewer_days (
    viewer_id text NOT NULL,
    day date NOT NULL,
    shard integer NOT NULL,
    plays bigint NOT NULL,
    completed bigint NOT NULL,
    direct_plays bigint NOT NULL,
    direct_streams bigint NOT NULL,
    transcodes bigint NOT NULL,
    failed bigint NOT NULL,
    watched_ms bigint NOT NULL,
    bytes_served bigint NOT NULL,
    PRIMARY KEY (viewer_id, day, shard)
);
CREATE TABLE days (
    day date NOT NULL,
    shard integer NOT NULL,
    viewers bigint NOT NULL,
    plays bigint NOT NULL,
    completed bigint NOT NULL,
    direct_plays bigint NOT NULL,
    direct_streams bigint NOT NULL,
    transcodes bigint NOT NULL,
    failed bigint NOT NULL,
    watched_ms bigint NOT NULL,
    bytes_served bigint NOT NULL,
    PRIMARY KEY (day, shard)
);
CREATE TABLE video_days (
    video_id text NOT NULL,
    day date NOT NULL,
    shard integer NOT NULL,
    viewers bigint NOT NULL,
    plays bigint NOT NULL,
    completed bigint NOT NULL,
    direct_plays bigint NOT NULL,
    direct_streams bigint NOT NULL,
    transcodes bigint NOT NULL,
    failed bigint NOT NULL,
    watched_ms bigint NOT NULL,
    bytes_served bigint NOT NULL,
    PRIMARY KEY (video_id, day, shard)
);
CREATE TABLE video_totals (
    video_id text NOT NULL,
    shard integer NOT NULL,
    viewers bigint NOT NULL,
    plays bigint NOT NULL,
    completed bigint NOT NULL,
    direct_plays bigint NOT NULL,
    direct_streams bigint NOT NULL,
    transcodes bigint NOT NULL,
    failed bigint NOT NULL,
    watched_ms bigint NOT NULL,
    bytes_served bigint NOT NULL,
    PRIMARY KEY (video_id, shard)
);
