#!/bin/bash
# Builds the demo page into web-demo/dist, unless it is newer than its sources.
set -euo pipefail
cd "$(dirname "$0")/../web-demo"

built=dist/index.html
if [ -f "$built" ] && [ -z "$(find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -newer "$built" -print -quit)" ]; then
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
npm run --silent build >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
