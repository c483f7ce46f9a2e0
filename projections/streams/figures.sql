-- name: days
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.day), '[]')::text FROM (
    SELECT day, sum(viewers)::bigint AS viewers, sum(plays)::bigint AS plays, sum(completed)::bigint AS completed,
        sum(direct_plays)::bigint AS direct_plays, sum(direct_streams)::bigint AS direct_streams,
        sum(transcodes)::bigint AS transcodes, sum(failed)::bigint AS failed, sum(watched_ms)::bigint AS watched_ms,
        sum(bytes_served)::bigint AS bytes_served
    FROM streams.days WHERE day BETWEEN %(first)s AND %(last)s GROUP BY day
) r;

-- name: active
SELECT count(*) FROM streams.sessions WHERE ended_at IS NULL AND seen_at > %(since)s AND seen_at <= %(now)s;

-- name: sessions
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.started_at DESC, r.session_id), '[]')::text FROM (
    SELECT s.session_id, s.viewer_id, s.video_id, v.title, s.playback, s.state, s.quality, s.codec, s.resolution, s.container,
        s.client, s.started_at, s.seen_at,
        coalesce(s.ended_at, CASE WHEN s.seen_at <= %(alive_since)s THEN s.seen_at END) AS ended_at,
        coalesce(s."end", CASE WHEN s.seen_at <= %(alive_since)s THEN 'expired' END) AS "end", s.fault, s.position_ms, s.furthest_ms, s.media_ms, s.watched_ms,
        s.bytes_served, s.bytes_redirected, s.start_up_ms, s.stalled_ms, s.switches, s.errors,
        s.ended_at IS NULL AND s.seen_at > %(alive_since)s AND s.seen_at <= %(now)s AS active
    FROM streams.sessions s LEFT JOIN catalog.videos v USING (video_id)
    WHERE (NOT %(only_active)s OR (s.ended_at IS NULL AND s.seen_at > %(alive_since)s AND s.seen_at <= %(now)s))
      AND (%(viewer_id)s::text IS NULL OR s.viewer_id = %(viewer_id)s)
      AND (%(since)s::timestamptz IS NULL OR s.started_at >= %(since)s)
      AND (%(before)s::timestamptz IS NULL OR s.started_at < %(before)s)
    ORDER BY s.started_at DESC, s.session_id LIMIT %(limit)s
) r;

-- name: has_watched
SELECT FROM streams.sessions WHERE viewer_id = %(viewer_id)s LIMIT 1;

-- name: viewers
SELECT coalesce(json_agg(row_to_json(r) ORDER BY r.watched_ms DESC, r.viewer_id), '[]')::text FROM (
    SELECT viewer_id, sum(plays)::bigint AS plays, sum(watched_ms)::bigint AS watched_ms, max(day) AS last_day
    FROM streams.viewer_days GROUP BY viewer_id ORDER BY sum(watched_ms) DESC, viewer_id LIMIT %(limit)s
) r;
