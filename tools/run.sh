#!/bin/bash
# Builds and starts `sluice dev`. The last line on the terminal is the URL to open.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --locked -p sluice
target=${CARGO_TARGET_DIR:-target}
# quiet, so that the URL stays the last line; RUST_LOG=info shows what happens
export SLUICE_LOG__LEVEL=${SLUICE_LOG__LEVEL:-warn}
exec "$target/debug/sluice" dev
