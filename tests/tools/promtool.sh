#!/usr/bin/env bash
# Puts promtool into bin/: the one that is installed, else that of Debian's package, unpacked only, since installing it starts a server.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p bin
if installed=$(command -v promtool); then
    ln -sf "$installed" bin/promtool
elif command -v apt-get >/dev/null; then
    apt-cache show prometheus >/dev/null 2>&1 || apt-get update -qq
    (cd bin && apt-get download -qq -o APT::Sandbox::User=root prometheus)
    dpkg-deb --fsys-tarfile bin/prometheus_*.deb | tar -x -C bin --strip-components=3 ./usr/bin/promtool
    rm bin/prometheus_*.deb
else
    echo "Please install promtool (it comes with Prometheus), then run the command again." >&2
    exit 1
fi
