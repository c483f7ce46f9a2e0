#!/usr/bin/env bash
# Checks for programs: tools.sh java mvn npm chromium mpv. As root on Debian it installs missing ones, else it names them in one
# sentence.
set -euo pipefail
declare -A package=([java]=openjdk-17-jre-headless [mvn]=maven [npm]=npm [chromium]=chromium [mpv]=mpv)
missing=()
for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" fonts-dejavu-core >/dev/null
else
    echo "Please install ${missing[*]} (as root on Debian this happens by itself), then run the command again." >&2
    exit 1
fi
