#!/bin/sh
# Writes a random secret for each service and program into .env beside this file, for docker compose; existing ones stay.
set -eu
umask 077
file="$(dirname "$0")/.env"
touch "$file"
for name in KINOLOG_S3_SECRET_KEY KINOLOG_SETTINGS_KEY POSTGRES_PASSWORD KAFKA_PASSWORD KAFKA_ADMIN_PASSWORD KAFKA_PUBLIC_PASSWORD \
    KAFKA_WORKER_APP_PASSWORD KAFKA_TELEMETRY_PASSWORD KAFKA_PROCESSORS_PASSWORD KAFKA_DISPATCHER_PASSWORD KAFKA_WORKER_PASSWORD KAFKA_OPERATOR_PASSWORD; do
    grep -q "^$name=" "$file" || echo "$name=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >> "$file"
done
