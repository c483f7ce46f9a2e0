-- name: create
-- Effects outside that are still to be done, each named by the event that wants it. `failures` counts those that no service that was
-- away explains. What was offered again (`again`) stays when it is done, as the answer to the person who offered it.
CREATE SCHEMA IF NOT EXISTS kinolog;
CREATE TABLE IF NOT EXISTS kinolog.outbox (
    effect text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    subject text NOT NULL,
    record bytea NOT NULL,
    again boolean NOT NULL DEFAULT false,
    failures integer NOT NULL DEFAULT 0,
    error text,
    due_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    PRIMARY KEY (effect, topic, partition, position)
);
CREATE INDEX IF NOT EXISTS outbox_due ON kinolog.outbox (due_at) WHERE done_at IS NULL;
CREATE INDEX IF NOT EXISTS outbox_subject ON kinolog.outbox (effect, topic, partition, subject, position) WHERE done_at IS NULL;

-- name: put
-- An effect that waits or is done begins anew only when a person offers it again.
INSERT INTO kinolog.outbox (effect, topic, partition, position, subject, record, again)
VALUES (%(effect)s, %(topic)s, %(partition)s, %(position)s, %(subject)s, %(record)s, %(again)s)
ON CONFLICT (effect, topic, partition, position) DO UPDATE SET again = true, failures = 0, error = NULL, due_at = now(), done_at = NULL
WHERE excluded.again;

-- name: take
-- The next due effect without an open earlier one of its subject. Its row stays locked until it is done.
SELECT effect, topic, partition, position, subject, record, again, failures FROM kinolog.outbox o
WHERE done_at IS NULL AND due_at <= now() AND effect = ANY(%(effects)s) AND NOT EXISTS (
    SELECT FROM kinolog.outbox e
    WHERE e.done_at IS NULL AND (e.effect, e.topic, e.partition, e.subject) = (o.effect, o.topic, o.partition, o.subject)
      AND e.position < o.position)
ORDER BY due_at, position LIMIT 1
FOR UPDATE SKIP LOCKED;

-- name: put_off
UPDATE kinolog.outbox SET failures = %(failures)s, error = %(error)s, due_at = clock_timestamp() + %(rest_s)s * interval '1 second'
WHERE (effect, topic, partition, position) = (%(effect)s, %(topic)s, %(partition)s, %(position)s);

-- name: done
WITH kept AS (
    UPDATE kinolog.outbox SET done_at = clock_timestamp(), error = NULL
    WHERE again AND (effect, topic, partition, position) = (%(effect)s, %(topic)s, %(partition)s, %(position)s))
DELETE FROM kinolog.outbox
WHERE NOT again AND (effect, topic, partition, position) = (%(effect)s, %(topic)s, %(partition)s, %(position)s);

-- name: drop
DELETE FROM kinolog.outbox
WHERE (effect, topic, partition, position) = (%(effect)s, %(topic)s, %(partition)s, %(position)s);

-- name: dump
SELECT coalesce(json_agg(row_to_json(o)), '[]')::text FROM kinolog.outbox o WHERE done_at IS NULL;

-- name: load
INSERT INTO kinolog.outbox SELECT * FROM json_populate_recordset(null::kinolog.outbox, %(document)s::json) ON CONFLICT DO NOTHING;

-- name: is_there
SELECT to_regclass('kinolog.outbox') IS NOT NULL;

-- name: failing
SELECT effect, topic, partition, position, subject, failures, error FROM kinolog.outbox
WHERE done_at IS NULL AND error IS NOT NULL ORDER BY due_at;

-- name: offered_again
SELECT effect, topic, partition, position, error, done_at FROM kinolog.outbox WHERE again;
