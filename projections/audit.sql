-- name: create
CREATE TABLE entries (
    id text PRIMARY KEY,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    time timestamptz NOT NULL,
    actor text,
    client text,
    action text NOT NULL,
    object_kind text NOT NULL,
    object_id text NOT NULL,
    shown boolean NOT NULL,
    refused boolean NOT NULL,
    reason text NOT NULL,
    values jsonb NOT NULL
);
CREATE INDEX ON entries (time, id) WHERE shown;
CREATE INDEX ON entries (actor, time) WHERE shown;
CREATE INDEX ON entries (object_id, "offset");

-- name: page
-- Newest first. `before` has, of each field that changed, the value that the same object had until then.
SELECT to_json(r)::text FROM (
    SELECT e.*, coalesce((
        SELECT jsonb_object_agg(field, (
            SELECT p.values -> field FROM audit.entries p
            WHERE p.object_id = e.object_id AND p.object_kind = e.object_kind AND p.topic = e.topic AND p.partition = e.partition
                AND p."offset" < e."offset" AND p.values ? field
            ORDER BY p."offset" DESC LIMIT 1
        )) FROM jsonb_object_keys(e.values) field
    ), '{}') AS before
    FROM audit.entries e
    WHERE e.shown
        AND (%(actor)s::text IS NULL OR e.actor = %(actor)s OR starts_with(e.actor, %(actor)s || ':'))
        AND (%(action)s::text IS NULL OR e.action = %(action)s OR starts_with(e.action, %(action)s || '.'))
        AND (%(object)s::text IS NULL OR e.object_id = %(object)s)
        AND (%(since)s::timestamptz IS NULL OR e.time >= %(since)s)
        AND (%(until)s::timestamptz IS NULL OR e.time < %(until)s)
        AND (%(time)s::timestamptz IS NULL OR (e.time, e.id) < (%(time)s, %(id)s))
    ORDER BY e.time DESC, e.id DESC
    LIMIT %(limit)s
) r;
