-- name: create
CREATE TABLE contents (
    sha256 text PRIMARY KEY,
    video_id text NOT NULL,
    upload jsonb NOT NULL,
    seen jsonb NOT NULL
);

-- name: holder
SELECT to_json(c)::text FROM contents.contents c WHERE sha256 = %(sha256)s;
