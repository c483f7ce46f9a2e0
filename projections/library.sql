-- name: encoder
-- The encoder that was used; that of the plan where an encode failed.
coalesce(nullif(j.made ->> 'encoder', ''), v.plan #>> '{video,encoder}')

-- name: ended
j.kind = 'encode' AND j.status IN ('completed', 'failed') AND j.ended_at >= %(since)s

-- name: transcodes
-- Encodes that ended since a moment, the latest first.
SELECT coalesce(json_agg(row_to_json(t) ORDER BY t.ended_at DESC, t.job_id), '[]')::text FROM (
    SELECT j.job_id, j.video_id, v.title, j.renditions, j.worker_id, j.claimed_at, j.ended_at,
        v.probe #>> '{video,codec}' AS input_codec, (v.probe #>> '{video,display_width}')::bigint AS input_width,
        (v.probe #>> '{video,display_height}')::bigint AS input_height, v.plan #>> '{video,codec}' AS output_codec,
        {encoder} AS encoder, coalesce((j.made ->> 'size_bytes')::bigint, 0) AS size_bytes,
        j.status = 'completed' AS success, j.failure ->> 'message' AS error
    FROM jobs.jobs j LEFT JOIN catalog.videos v USING (video_id)
    WHERE {ended} ORDER BY j.ended_at DESC, j.job_id LIMIT %(limit)s
) t;

-- name: transcode_sums
SELECT row_to_json(s)::text FROM (
    SELECT count(*) AS total, count(*) FILTER (WHERE j.status = 'completed') AS succeeded,
        count(*) FILTER (WHERE {encoder} <> ALL (%(software)s)) AS by_hardware,
        coalesce(avg(extract(epoch FROM j.ended_at - j.claimed_at)), 0)::float8 AS mean_s
    FROM jobs.jobs j LEFT JOIN catalog.videos v USING (video_id) WHERE {ended}
) s;

-- name: transcode_codecs
SELECT coalesce(json_agg(row_to_json(s) ORDER BY s.count DESC, s.name), '[]')::text FROM (
    SELECT coalesce(v.plan #>> '{video,codec}', 'unknown') AS name, count(*) AS count
    FROM jobs.jobs j LEFT JOIN catalog.videos v USING (video_id) WHERE {ended} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(names)s
) s;

-- name: kept
-- Videos whose source is there: as in `daily`, from their upload until they are purged.
status IN ('processing', 'ready', 'failed')

-- name: health
SELECT row_to_json(s)::text FROM (
    SELECT count(*) AS items, coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
        count(*) FILTER (WHERE description = '') AS without_description,
        count(*) FILTER (WHERE thumbnail IS NULL AND probe #>> '{video,codec}' IS NOT NULL) AS without_picture,
        count(*) FILTER (WHERE probe #>> '{video,hdr}' IS NOT NULL) AS hdr,
        count(*) FILTER (WHERE jsonb_path_exists(probe, '$.audio[*].profile ? (@ like_regex "atmos" flag "i")')) AS atmos
    FROM catalog.videos WHERE {kept}
) s;

-- name: codecs
SELECT coalesce(json_agg(row_to_json(s) ORDER BY s.count DESC, s.name), '[]')::text FROM (
    SELECT coalesce(probe #>> '{video,codec}', probe #>> '{audio,0,codec}', 'unknown') AS name, count(*) AS count
    FROM catalog.videos WHERE {kept} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(names)s
) s;

-- name: sizes
-- Videos with pictures, by the number of lines that their shorter side has.
SELECT coalesce(json_agg(json_build_array(s.lines, s.count)), '[]')::text FROM (
    SELECT least((probe #>> '{video,display_width}')::bigint, (probe #>> '{video,display_height}')::bigint) AS lines, count(*) AS count
    FROM catalog.videos WHERE {kept} AND probe #>> '{video,display_height}' IS NOT NULL GROUP BY 1
) s;
