#!/bin/sh
# Checks the units with systemd-analyze, with the program's path put to where it is here: sh verify.sh PROGRAM
set -eu
if ! command -v systemd-analyze >/dev/null; then
    echo "systemd-analyze is not here: the units were not checked"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for unit in "$(dirname "$0")"/*.service; do
    sed -e "s|/opt/shaodao/.venv/bin/shaodao|$1|" -e "s|^User=.*|User=$(id -un)|" -e '/^Documentation=/d' \
        "$unit" >"$folder/$(basename "$unit")"
done
SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no --recursive-errors=yes "$folder"/*.service
