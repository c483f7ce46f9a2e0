-- name: create
CREATE TABLE videos (
    video_id text PRIMARY KEY,
    slug text NOT NULL,
    status text NOT NULL,
    archived boolean NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    filename text NOT NULL,
    object_key text NOT NULL,
    size_bytes bigint,
    sha256 text,
    multipart_id text,
    part_bytes bigint,
    priority text NOT NULL,
    started_at timestamptz,
    uploaded_at timestamptz,
    probe jsonb,
    plan jsonb,
    job_ids jsonb NOT NULL,
    duration_ms bigint,
    rungs jsonb NOT NULL,
    thumbnail jsonb,
    published_at timestamptz,
    failure jsonb
);
CREATE INDEX ON videos (uploaded_at DESC, video_id DESC) WHERE status = 'ready' AND NOT archived;
CREATE INDEX ON videos (coalesce(uploaded_at, started_at) DESC, video_id DESC);
CREATE UNIQUE INDEX ON videos (slug);
CREATE INDEX ON videos (sha256);
CREATE INDEX ON videos USING gin (to_tsvector('simple', title || ' ' || description));

CREATE TABLE media (
    video_id text NOT NULL,
    job_id text NOT NULL,
    completed_at timestamptz NOT NULL,
    kind text NOT NULL,
    renditions jsonb NOT NULL,
    thumbnail jsonb,
    subtitles jsonb NOT NULL,
    PRIMARY KEY (video_id, job_id)
);

-- name: page
-- Published videos, newest first, after a cursor (uploaded_at, video_id).
SELECT to_json(v)::text FROM (
    SELECT video_id, slug, status, archived, title, description, duration_ms, rungs, thumbnail, uploaded_at, published_at
    FROM catalog.videos
    WHERE status = 'ready' AND NOT archived
      AND (uploaded_at, video_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY uploaded_at DESC, video_id DESC
    LIMIT %(limit)s
) v;

-- name: search
-- Published videos with every word (the last as a prefix) in title or description, newest first.
SELECT to_json(v)::text FROM (
    SELECT video_id, slug, status, archived, title, description, duration_ms, rungs, thumbnail, uploaded_at, published_at
    FROM catalog.videos
    WHERE status = 'ready' AND NOT archived
      AND to_tsvector('simple', title || ' ' || description) @@ to_tsquery('simple', %(query)s)
      AND (uploaded_at, video_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY uploaded_at DESC, video_id DESC
    LIMIT %(limit)s
) v;

-- name: listing
-- Every video for the administrator, newest first, by state and content when asked.
SELECT to_json(v)::text FROM (
    SELECT * FROM catalog.videos
    WHERE (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(archived)s::boolean IS NULL OR archived = %(archived)s)
      AND (%(sha256)s::text IS NULL OR sha256 = %(sha256)s)
      AND (coalesce(uploaded_at, started_at), video_id)
          < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY coalesce(uploaded_at, started_at) DESC, video_id DESC
    LIMIT %(limit)s
) v;

-- name: by_slug
SELECT to_json(v)::text FROM catalog.videos v WHERE slug = %(slug)s;

-- name: by_id
SELECT to_json(v)::text FROM catalog.videos v WHERE video_id = %(video_id)s;

-- name: same_content
-- Videos with this content that are neither purged nor failed, oldest first.
SELECT to_json(v)::text FROM catalog.videos v
WHERE sha256 = %(sha256)s AND status IN ('processing', 'ready') ORDER BY uploaded_at, video_id LIMIT 10;

-- name: stale_uploads
-- Uploads that were begun before a moment and never completed.
SELECT to_json(v)::text FROM catalog.videos v
WHERE status = 'uploading' AND started_at < %(before)s ORDER BY started_at LIMIT %(limit)s;

-- name: media
SELECT to_json(m)::text FROM catalog.media m WHERE video_id = %(video_id)s ORDER BY completed_at, job_id;

-- name: counts
SELECT status, count(*) FROM catalog.videos GROUP BY status ORDER BY status;
