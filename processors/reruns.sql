-- name: create
CREATE TABLE reruns (
    job_id text PRIMARY KEY,
    failure_id text NOT NULL,
    failed jsonb NOT NULL
);
