-- name: days
-- Each day of a range on which something happened, or that was closed; with `whole` every day.
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.day), '[]')::text FROM (
    WITH watched AS (
        SELECT day, sum(plays)::bigint AS plays, sum(viewers)::bigint AS viewers, sum(watched_ms)::bigint AS watched_ms,
            sum(bytes_served)::bigint AS bytes_served, sum(transcodes)::bigint AS transcodes,
            sum(direct_plays)::bigint AS direct_plays, sum(direct_streams)::bigint AS direct_streams,
            sum(completed)::bigint AS completed, sum(failed)::bigint AS failed
        FROM streams.days WHERE day BETWEEN %(first)s AND %(last)s GROUP BY day
    ), grown AS (
        SELECT greatest(day, %(first)s - 1) AS day, sum(added)::bigint AS added, sum(added - removed)::bigint AS items,
            sum(bytes_added - bytes_removed)::bigint AS bytes
        FROM daily.library_days WHERE day <= %(last)s GROUP BY 1
    ), failures AS (
        SELECT day, sum(failures)::bigint AS failures FROM daily.failed_days WHERE day BETWEEN %(first)s AND %(last)s GROUP BY day
    ), found AS (
        SELECT day, w.day IS NOT NULL OR g.day IS NOT NULL OR f.day IS NOT NULL AS happened,
            json_build_object(
                'total_plays', coalesce(w.plays, 0),
                'unique_users', coalesce(w.viewers, 0),
                'total_watch_minutes', coalesce(w.watched_ms, 0) / 60000,
                'total_bytes_served', coalesce(w.bytes_served, 0),
                'transcodes', coalesce(w.transcodes, 0),
                'direct_plays', coalesce(w.direct_plays, 0),
                'direct_streams', coalesce(w.direct_streams, 0),
                'transcode_failures', coalesce(f.failures, 0),
                'new_media_added', coalesce(g.added, 0),
                'library_size_total', coalesce(sum(g.items) OVER before, 0),
                'storage_used_bytes', coalesce(sum(g.bytes) OVER before, 0)
            ) AS figures,
            coalesce(w.completed, 0) AS completed_plays, coalesce(w.failed, 0) AS failed_streams
        FROM (SELECT (%(first)s::date - 1 + n) AS day FROM generate_series(0, %(last)s::date - %(first)s::date + 1) n) AS every
            LEFT JOIN watched w USING (day) LEFT JOIN grown g USING (day) LEFT JOIN failures f USING (day)
        WINDOW before AS (ORDER BY day)
    )
    SELECT found.day, found.figures, completed_plays, failed_streams, to_json(c) AS closing
    FROM found LEFT JOIN daily.closings c ON c.day = found.day
    WHERE found.day >= %(first)s AND (%(whole)s OR happened OR c.day IS NOT NULL)
) r;

-- name: last_closed
SELECT max(day) FROM daily.closings WHERE zone = %(zone)s;
