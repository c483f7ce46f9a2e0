-- name: create
CREATE TABLE segments (
    topic text NOT NULL,
    partition integer NOT NULL,
    first bigint NOT NULL,
    next bigint NOT NULL,
    records bigint NOT NULL,
    key text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    chain text NOT NULL,
    time_first timestamptz,
    time_last timestamptz,
    PRIMARY KEY (topic, partition, first)
);
