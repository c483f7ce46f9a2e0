-- name: create
CREATE TABLE leaderboard (
    hardware text COLLATE "C",
    encoder text COLLATE "C",
    codec text COLLATE "C",
    resolution text COLLATE "C",
    samples bigint NOT NULL,
    speed_count bigint NOT NULL,
    speed_sum numeric NOT NULL,
    reduction_count bigint NOT NULL,
    reduction_sum numeric NOT NULL,
    PRIMARY KEY (hardware, encoder, codec, resolution)
);

CREATE TABLE stability (
    encoder text COLLATE "C",
    error text COLLATE "C",
    count bigint NOT NULL,
    PRIMARY KEY (encoder, error)
);

CREATE TABLE hardware (
    named boolean,
    hardware text COLLATE "C",
    events bigint NOT NULL,
    PRIMARY KEY (named, hardware)
);

CREATE TABLE outcomes (
    day date,
    app_version text COLLATE "C",
    hardware text COLLATE "C",
    encoder text COLLATE "C",
    codec text COLLATE "C",
    resolution text COLLATE "C",
    events bigint NOT NULL,
    started bigint NOT NULL,
    finished bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    speed_count bigint NOT NULL,
    speed_sum numeric NOT NULL,
    speed_squares numeric NOT NULL,
    speed_bins jsonb NOT NULL,
    reduction_count bigint NOT NULL,
    reduction_sum numeric NOT NULL,
    PRIMARY KEY (day, app_version, hardware, encoder, codec, resolution)
);

CREATE TABLE failures (
    day date,
    app_version text COLLATE "C",
    hardware text COLLATE "C",
    encoder text COLLATE "C",
    codec text COLLATE "C",
    resolution text COLLATE "C",
    reason text COLLATE "C",
    count bigint NOT NULL,
    PRIMARY KEY (day, app_version, hardware, encoder, codec, resolution, reason)
);

-- Every report that was ever folded: what comes again under its id does not count.
CREATE TABLE seen (id uuid PRIMARY KEY);
