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

CREATE TABLE words (
    label text COLLATE "C",
    named boolean,
    word text COLLATE "C",
    events bigint NOT NULL,
    PRIMARY KEY (label, named, word)
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
-- The leaderboard in the predecessor's form; words beyond the caps share a line.
WITH kept AS (
    SELECT label, word FROM (
        SELECT label, word, row_number() OVER (PARTITION BY label ORDER BY events DESC, word) AS rank FROM telemetry.words WHERE named
    ) ranked WHERE rank <= CASE label WHEN 'hardware' THEN %(hardware_max)s ELSE %(words_max)s END
),
capped AS (
    SELECT CASE WHEN hardware IN (SELECT word FROM kept WHERE label = 'hardware') THEN hardware ELSE %(other)s END AS hardware,
           CASE WHEN encoder IN (SELECT word FROM kept WHERE label = 'encoder') THEN encoder ELSE %(other)s END AS encoder,
           CASE WHEN codec IN (SELECT word FROM kept WHERE label = 'codec') THEN codec ELSE %(other)s END AS codec,
           CASE WHEN resolution IN (SELECT word FROM kept WHERE label = 'resolution') THEN resolution ELSE %(other)s END AS res,
           samples, speed_count, speed_sum, reduction_count, reduction_sum
    FROM telemetry.leaderboard
),
lines AS (
    SELECT hardware, encoder, codec, res,
           coalesce(round(sum(speed_sum) / nullif(1000000 * sum(speed_count), 0), 6), 0)::float8 AS speed,
           coalesce(round(sum(reduction_sum) / nullif(1000000 * sum(reduction_count), 0), 6), 0)::float8 AS reduction,
           sum(samples)::bigint AS samples
    FROM capped GROUP BY 1, 2, 3, 4
)
SELECT hardware, encoder, codec, res, speed, reduction, samples FROM lines
ORDER BY speed DESC, samples DESC, hardware COLLATE "C", encoder COLLATE "C", codec COLLATE "C", res COLLATE "C"
LIMIT %(limit)s;

-- name: stability
WITH kept AS (
    SELECT label, word FROM (
        SELECT label, word, row_number() OVER (PARTITION BY label ORDER BY events DESC, word) AS rank FROM telemetry.words WHERE named
    ) ranked WHERE rank <= CASE label WHEN 'hardware' THEN %(hardware_max)s ELSE %(words_max)s END
),
capped AS (
    SELECT CASE WHEN encoder IN (SELECT word FROM kept WHERE label = 'encoder') THEN encoder ELSE %(other)s END AS encoder,
           CASE WHEN error IN (SELECT word FROM kept WHERE label = 'reason') THEN error ELSE %(other)s END AS error,
           count
    FROM telemetry.stability
),
lines AS (SELECT encoder, error, sum(count)::bigint AS count FROM capped GROUP BY 1, 2)
SELECT encoder, error, count FROM lines ORDER BY count DESC, encoder COLLATE "C", error COLLATE "C" LIMIT %(limit)s;

-- name: coverage
SELECT label, sum(events)::bigint, count(*) FILTER (WHERE named) FROM telemetry.words GROUP BY label;

-- name: groups
-- Outcomes of a selection, summed by some of the six labels; labels not requested are empty.
WITH kept AS (
    SELECT label, word FROM (
        SELECT label, word, row_number() OVER (PARTITION BY label ORDER BY events DESC, word) AS rank FROM telemetry.words WHERE named
    ) ranked WHERE rank <= CASE label WHEN 'hardware' THEN %(hardware_max)s ELSE %(words_max)s END
),
named AS (
    SELECT day, started, finished, succeeded, failed, speed_count, speed_sum, speed_squares, speed_bins, reduction_count,
           reduction_sum,
           CASE WHEN app_version = '' OR app_version IN (SELECT word FROM kept WHERE label = 'app_version') THEN app_version ELSE %(other)s END AS app_version,
           CASE WHEN hardware = '' OR hardware IN (SELECT word FROM kept WHERE label = 'hardware') THEN hardware ELSE %(other)s END AS hardware,
           CASE WHEN encoder = '' OR encoder IN (SELECT word FROM kept WHERE label = 'encoder') THEN encoder ELSE %(other)s END AS encoder,
           CASE WHEN codec = '' OR codec IN (SELECT word FROM kept WHERE label = 'codec') THEN codec ELSE %(other)s END AS codec,
           CASE WHEN resolution = '' OR resolution IN (SELECT word FROM kept WHERE label = 'resolution') THEN resolution ELSE %(other)s END AS resolution
    FROM telemetry.outcomes
    WHERE (%(since)s::date IS NULL OR day >= %(since)s) AND (%(until)s::date IS NULL OR day <= %(until)s)
),
chosen AS MATERIALIZED (
    SELECT CASE WHEN 'day' = ANY(%(by)s) THEN day::text ELSE '' END AS day,
           CASE WHEN 'app_version' = ANY(%(by)s) THEN app_version ELSE '' END AS app_version,
           CASE WHEN 'hardware' = ANY(%(by)s) THEN hardware ELSE '' END AS hardware,
           CASE WHEN 'encoder' = ANY(%(by)s) THEN encoder ELSE '' END AS encoder,
           CASE WHEN 'codec' = ANY(%(by)s) THEN codec ELSE '' END AS codec,
           CASE WHEN 'resolution' = ANY(%(by)s) THEN resolution ELSE '' END AS resolution,
           started, finished, succeeded, failed, speed_count, speed_sum, speed_squares, speed_bins, reduction_count, reduction_sum
    FROM named
    WHERE (%(hardware)s::text IS NULL OR hardware = %(hardware)s)
      AND (%(app_version)s::text IS NULL OR app_version = %(app_version)s)
      AND (%(encoder)s::text IS NULL OR encoder = %(encoder)s)
      AND (%(codec)s::text IS NULL OR codec = %(codec)s)
      AND (%(resolution)s::text IS NULL OR resolution = %(resolution)s)
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
    ORDER BY finished DESC, day, app_version COLLATE "C", hardware COLLATE "C", encoder COLLATE "C", codec COLLATE "C",
             resolution COLLATE "C"
    LIMIT %(limit)s
) g;

-- name: reasons
-- Failed jobs of a selection, counted by encoder and reason.
WITH kept AS (
    SELECT label, word FROM (
        SELECT label, word, row_number() OVER (PARTITION BY label ORDER BY events DESC, word) AS rank FROM telemetry.words WHERE named
    ) ranked WHERE rank <= CASE label WHEN 'hardware' THEN %(hardware_max)s ELSE %(words_max)s END
),
named AS (
    SELECT count,
           CASE WHEN app_version = '' OR app_version IN (SELECT word FROM kept WHERE label = 'app_version') THEN app_version ELSE %(other)s END AS app_version,
           CASE WHEN hardware = '' OR hardware IN (SELECT word FROM kept WHERE label = 'hardware') THEN hardware ELSE %(other)s END AS hardware,
           CASE WHEN encoder = '' OR encoder IN (SELECT word FROM kept WHERE label = 'encoder') THEN encoder ELSE %(other)s END AS encoder,
           CASE WHEN codec = '' OR codec IN (SELECT word FROM kept WHERE label = 'codec') THEN codec ELSE %(other)s END AS codec,
           CASE WHEN resolution = '' OR resolution IN (SELECT word FROM kept WHERE label = 'resolution') THEN resolution ELSE %(other)s END AS resolution,
           CASE WHEN reason = '' OR reason IN (SELECT word FROM kept WHERE label = 'reason') THEN reason ELSE %(other)s END AS reason
    FROM telemetry.failures
    WHERE (%(since)s::date IS NULL OR day >= %(since)s) AND (%(until)s::date IS NULL OR day <= %(until)s)
),
lines AS (
    SELECT encoder, reason, sum(count)::bigint AS count FROM named
    WHERE (%(hardware)s::text IS NULL OR hardware = %(hardware)s)
      AND (%(app_version)s::text IS NULL OR app_version = %(app_version)s)
      AND (%(encoder)s::text IS NULL OR encoder = %(encoder)s)
      AND (%(codec)s::text IS NULL OR codec = %(codec)s)
      AND (%(resolution)s::text IS NULL OR resolution = %(resolution)s)
    GROUP BY 1, 2
)
SELECT encoder, reason, count FROM lines ORDER BY count DESC, encoder COLLATE "C", reason COLLATE "C" LIMIT %(limit)s;
