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

-- name: board
-- The leaderboard as the predecessor's clients know it; hardware that is seldom named shares a line.
WITH kept AS (SELECT hardware FROM telemetry.hardware WHERE named ORDER BY events DESC, hardware LIMIT %(hardware_max)s),
lines AS (
    SELECT CASE WHEN k.hardware IS NULL THEN %(other)s ELSE l.hardware END AS hardware, l.encoder, l.codec, l.resolution AS res,
           coalesce(round(sum(l.speed_sum) / nullif(1000000 * sum(l.speed_count), 0), 6), 0)::float8 AS speed,
           coalesce(round(sum(l.reduction_sum) / nullif(1000000 * sum(l.reduction_count), 0), 6), 0)::float8 AS reduction,
           sum(l.samples)::bigint AS samples
    FROM telemetry.leaderboard l LEFT JOIN kept k USING (hardware)
    GROUP BY 1, 2, 3, 4
)
SELECT hardware, encoder, codec, res, speed, reduction, samples FROM lines
ORDER BY speed DESC, samples DESC, hardware COLLATE "C", encoder, codec, res
LIMIT %(limit)s;

-- name: stability
SELECT encoder, error, count FROM telemetry.stability ORDER BY count DESC, encoder, error LIMIT %(limit)s;

-- name: coverage
SELECT coalesce(sum(events), 0)::bigint, count(*) FILTER (WHERE named) FROM telemetry.hardware;

-- name: groups
-- Outcomes of a selection, added up by some of the six labels; a label that is not asked for is empty.
WITH kept AS (SELECT hardware FROM telemetry.hardware WHERE named ORDER BY events DESC, hardware LIMIT %(hardware_max)s),
named AS (
    SELECT o.day, o.app_version, o.encoder, o.codec, o.resolution, o.started, o.finished, o.succeeded, o.failed, o.speed_count,
           o.speed_sum, o.speed_squares, o.speed_bins, o.reduction_count, o.reduction_sum,
           CASE WHEN o.hardware = '' OR k.hardware IS NOT NULL THEN o.hardware ELSE %(other)s END AS hardware
    FROM telemetry.outcomes o LEFT JOIN kept k USING (hardware)
    WHERE (%(since)s::date IS NULL OR o.day >= %(since)s) AND (%(until)s::date IS NULL OR o.day <= %(until)s)
      AND (%(app_version)s::text IS NULL OR o.app_version = %(app_version)s)
      AND (%(encoder)s::text IS NULL OR o.encoder = %(encoder)s)
      AND (%(codec)s::text IS NULL OR o.codec = %(codec)s)
      AND (%(resolution)s::text IS NULL OR o.resolution = %(resolution)s)
),
chosen AS MATERIALIZED (
    SELECT CASE WHEN 'day' = ANY(%(by)s) THEN day::text ELSE '' END AS day,
           CASE WHEN 'app_version' = ANY(%(by)s) THEN app_version ELSE '' END AS app_version,
           CASE WHEN 'hardware' = ANY(%(by)s) THEN hardware ELSE '' END AS hardware,
           CASE WHEN 'encoder' = ANY(%(by)s) THEN encoder ELSE '' END AS encoder,
           CASE WHEN 'codec' = ANY(%(by)s) THEN codec ELSE '' END AS codec,
           CASE WHEN 'resolution' = ANY(%(by)s) THEN resolution ELSE '' END AS resolution,
           started, finished, succeeded, failed, speed_count, speed_sum, speed_squares, speed_bins, reduction_count, reduction_sum
    FROM named WHERE %(hardware)s::text IS NULL OR hardware = %(hardware)s
),
sums AS (
    SELECT day, app_version, hardware, encoder, codec, resolution,
           sum(started) AS started, sum(finished) AS finished, sum(succeeded) AS succeeded, sum(failed) AS failed,
           sum(speed_count) AS speed_count, sum(speed_sum) AS speed_sum, sum(speed_squares) AS speed_squares,
           sum(reduction_count) AS reduction_count, sum(reduction_sum) AS reduction_sum
    FROM chosen GROUP BY 1, 2, 3, 4, 5, 6
),
bins AS (
    SELECT day, app_version, hardware, encoder, codec, resolution, jsonb_object_agg(bin, count) AS speed_bins FROM (
        SELECT day, app_version, hardware, encoder, codec, resolution, b.key AS bin, sum(b.value::bigint) AS count
        FROM chosen CROSS JOIN jsonb_each_text(speed_bins) b GROUP BY 1, 2, 3, 4, 5, 6, 7
    ) counted GROUP BY 1, 2, 3, 4, 5, 6
)
SELECT to_json(g)::text FROM (
    SELECT day, app_version, hardware, encoder, codec, resolution, started, finished, succeeded, failed, speed_count, speed_sum,
           speed_squares, coalesce(speed_bins, '{}') AS speed_bins, reduction_count, reduction_sum
    FROM sums LEFT JOIN bins USING (day, app_version, hardware, encoder, codec, resolution)
    WHERE finished >= %(finished_min)s
    ORDER BY finished DESC, day, app_version, hardware COLLATE "C", encoder, codec, resolution
    LIMIT %(limit)s
) g;

-- name: reasons
-- Why the jobs of a selection failed, by encoder and reason.
WITH kept AS (SELECT hardware FROM telemetry.hardware WHERE named ORDER BY events DESC, hardware LIMIT %(hardware_max)s),
named AS (
    SELECT f.encoder, f.reason, f.count,
           CASE WHEN f.hardware = '' OR k.hardware IS NOT NULL THEN f.hardware ELSE %(other)s END AS hardware
    FROM telemetry.failures f LEFT JOIN kept k USING (hardware)
    WHERE (%(since)s::date IS NULL OR f.day >= %(since)s) AND (%(until)s::date IS NULL OR f.day <= %(until)s)
      AND (%(app_version)s::text IS NULL OR f.app_version = %(app_version)s)
      AND (%(encoder)s::text IS NULL OR f.encoder = %(encoder)s)
      AND (%(codec)s::text IS NULL OR f.codec = %(codec)s)
      AND (%(resolution)s::text IS NULL OR f.resolution = %(resolution)s)
)
SELECT encoder, reason, sum(count)::bigint FROM named
WHERE %(hardware)s::text IS NULL OR hardware = %(hardware)s
GROUP BY encoder, reason ORDER BY 3 DESC, 1, 2 LIMIT %(limit)s;
