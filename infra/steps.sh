#!/usr/bin/env bash
# Runs named steps one after the other and prints the duration of each: steps.sh NAME COMMAND [NAME COMMAND …]
set -uo pipefail
summary=""
while [ $# -gt 0 ]; do
    name=$1 command=$2
    shift 2
    begun=$SECONDS
    bash -c "$command"
    code=$?
    summary+="  $name: $((SECONDS - begun)) s (exit $code)"$'\n'
    if [ $code -ne 0 ]; then
        printf 'steps:\n%s' "$summary"
        exit $code
    fi
done
printf 'steps:\n%s' "$summary"
