-- name: create
CREATE TABLE videos (
    video_id text PRIMARY KEY,
    slug text NOT NULL,
    status text NOT NULL,
    archived boolean NOT NULL,
    visibility text NOT NULL,
    roles jsonb NOT NULL,
    users jsonb NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    filename text NOT NULL,
    object_key text NOT NULL,
    size_bytes bigint,
    sha256 text,
    multipart_id text,
    part_bytes bigint,
    force boolean NOT NULL,
    same_as text,
    priority text NOT NULL,
    started_at timestamptz,
    uploaded_at timestamptz,
    probe jsonb,
    plan jsonb,
    job_ids jsonb NOT NULL,
    duration_ms bigint,
    rungs jsonb NOT NULL,
    thumbnail jsonb,
    warnings jsonb NOT NULL,
    published_at timestamptz,
    failure jsonb,
    failed_job_id text,
    words tsvector NOT NULL,
    seen jsonb NOT NULL
);
-- Slugs are unique by their 40 random bits. No constraint says so: a fold must never stop at a row that cannot be written.
CREATE INDEX ON videos (slug);
CREATE INDEX ON videos USING hash (sha256);
CREATE INDEX ON videos (uploaded_at DESC, video_id DESC) WHERE status = 'ready' AND NOT archived AND visibility <> 'unlisted';
CREATE INDEX ON videos (coalesce(uploaded_at, started_at) DESC, video_id DESC);
CREATE INDEX ON videos (status, coalesce(uploaded_at, started_at) DESC, video_id DESC);
-- Without fastupdate no search pays for entries that are still to be sorted in.
CREATE INDEX ON videos USING gin (words) WITH (fastupdate = off);

CREATE TABLE media (
    video_id text NOT NULL,
    job_id text NOT NULL,
    completed_at timestamptz NOT NULL,
    kind text NOT NULL,
    renditions jsonb NOT NULL,
    thumbnail jsonb,
    subtitles jsonb NOT NULL,
    epoch bigint NOT NULL,
    parts bigint NOT NULL,
    PRIMARY KEY (video_id, job_id)
);

CREATE TABLE parts (
    video_id text NOT NULL,
    job_id text NOT NULL,
    epoch bigint NOT NULL,
    part bigint NOT NULL,
    renditions jsonb NOT NULL,
    PRIMARY KEY (video_id, job_id, epoch, part)
);

-- name: listable
-- The rule of `projections.visibility.may_list`, as a condition.
status = 'ready' AND NOT archived AND visibility <> 'unlisted'
    AND (visibility = 'public' OR %(everything)s OR roles ? %(role)s::text OR users ? %(user_id)s::text)

-- name: page
-- Listable videos, newest first, after a cursor (uploaded_at, video_id).
SELECT to_json(v)::text FROM (
    SELECT video_id, slug, status, archived, visibility, title, description, duration_ms, rungs, thumbnail, uploaded_at, published_at
    FROM catalog.videos
    WHERE {listable}
      AND (uploaded_at, video_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY uploaded_at DESC, video_id DESC
    LIMIT %(limit)s
) v;

-- name: search
-- Listable videos with every word (the last as a prefix) in title or description, newest first.
SELECT to_json(v)::text FROM (
    SELECT video_id, slug, status, archived, visibility, title, description, duration_ms, rungs, thumbnail, uploaded_at, published_at
    FROM catalog.videos
    WHERE {listable} AND words @@ %(query)s::tsquery
      AND (uploaded_at, video_id) < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY uploaded_at DESC, video_id DESC
    LIMIT %(limit)s
) v;

-- name: listing
-- Every video for the administrator, newest first, filtered by state, content and words; without uploads given up for another.
SELECT to_json(v)::text FROM (
    SELECT * FROM catalog.videos
    WHERE same_as IS NULL
      AND (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(archived)s::boolean IS NULL OR archived = %(archived)s)
      AND (%(sha256)s::text IS NULL OR sha256 = %(sha256)s)
      AND (%(query)s::text IS NULL OR words @@ %(query)s::tsquery)
      AND (coalesce(uploaded_at, started_at), video_id)
          < (coalesce(%(after_time)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
    ORDER BY coalesce(uploaded_at, started_at) DESC, video_id DESC
    LIMIT %(limit)s
) v;

-- name: by_slug
-- If two videos share a slug (once in 10^12 pairs), the older one has it.
SELECT to_json(v)::text FROM catalog.videos v
WHERE slug = %(slug)s ORDER BY coalesce(uploaded_at, started_at), video_id LIMIT 1;

-- name: by_part
-- Ids that begin or end with a part. Scans every row: people ask rarely and can wait.
SELECT video_id FROM catalog.videos
WHERE starts_with(video_id, %(part)s) OR right(video_id, length(%(part)s)) = %(part)s ORDER BY video_id LIMIT 2;

-- name: by_id
SELECT to_json(v)::text FROM catalog.videos v WHERE video_id = %(video_id)s;

-- name: same_content
-- The oldest video with this content that is neither purged nor failed.
SELECT to_json(v)::text FROM catalog.videos v
WHERE sha256 = %(sha256)s AND status IN ('processing', 'ready') ORDER BY uploaded_at, video_id LIMIT 1;

-- name: stale_uploads
-- Uploads started before a moment and never completed.
SELECT to_json(v)::text FROM catalog.videos v
WHERE status = 'uploading' AND started_at < %(before)s ORDER BY started_at LIMIT %(limit)s;

-- name: media
-- Results of finished jobs, with the parts reported before them.
SELECT to_json(m)::text FROM (
    SELECT video_id, job_id, completed_at, kind, thumbnail, subtitles, epoch, parts,
           CASE parts WHEN 0 THEN renditions ELSE renditions || (
               SELECT coalesce(jsonb_agg(r ORDER BY p.part), '[]')
               FROM catalog.parts p, jsonb_array_elements(p.renditions) r
               WHERE (p.video_id, p.job_id, p.epoch) = (m.video_id, m.job_id, m.epoch) AND p.part < m.parts
           ) END AS renditions
    FROM catalog.media m WHERE video_id = %(video_id)s
) m ORDER BY completed_at, job_id;

-- name: media_of_rendition
-- The same for a single rendition: a playlist needs no others.
SELECT to_json(m)::text FROM (
    SELECT video_id, job_id, completed_at, kind, thumbnail, subtitles, epoch, parts,
           jsonb_path_query_array(renditions, '$[*] ? (@.name == $name)', jsonb_build_object('name', %(rendition)s::text))
           || CASE parts WHEN 0 THEN '[]' ELSE (
               SELECT coalesce(jsonb_agg(r ORDER BY p.part), '[]')
               FROM catalog.parts p, jsonb_array_elements(p.renditions) r
               WHERE (p.video_id, p.job_id, p.epoch) = (m.video_id, m.job_id, m.epoch) AND p.part < m.parts
                 AND r ->> 'name' = %(rendition)s::text
           ) END AS renditions
    FROM catalog.media m WHERE video_id = %(video_id)s
) m ORDER BY completed_at, job_id;

-- name: playable
-- Visibility of a job's result, if it was accepted under this epoch and its video is neither archived nor purged.
SELECT v.visibility FROM catalog.media m JOIN catalog.videos v USING (video_id)
WHERE (m.video_id, m.job_id, m.epoch) = (%(video_id)s, %(job_id)s, %(epoch)s)
  AND NOT v.archived AND v.status NOT IN ('purged', 'abandoned');

-- name: extras
-- The same for everything other than renditions.
SELECT to_json(m)::text FROM catalog.media m WHERE video_id = %(video_id)s AND kind = 'extras' ORDER BY completed_at, job_id;

-- name: edition
-- Identifies the rows behind a video's manifests in a few bytes: rows of media are only ever added.
SELECT to_json(e)::text FROM (
    SELECT video_id, status, archived, visibility, roles, users, md5(concat_ws('/', probe, plan, job_ids)) AS digest,
           (SELECT count(*) FROM catalog.media m WHERE m.video_id = v.video_id) AS media
    FROM catalog.videos v
    WHERE slug = %(slug)s::text OR video_id = %(video_id)s::text
    ORDER BY coalesce(uploaded_at, started_at), video_id LIMIT 1
) e;

-- name: counts
SELECT status, count(*) FROM catalog.videos WHERE same_as IS NULL GROUP BY status ORDER BY status;
