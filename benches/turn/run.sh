#!/bin/bash
# CPU per relayed packet: sluice-turn and coturn side by side, into benches/results/turn.json and turn.md. About five minutes.
#
#   benches/turn/run.sh [OPTION...]      options of bench-turn (--help), for example --ways train --allocations 1
#
# Needs coturn (tools/setup.sh test), and root for --real-time, which is the default here because it is what makes figures
# repeat: without it (BENCH_TURN_PLAIN=1) the machine has to be quiet. SLUICE_TURN_BIN, BENCH_TURN_BIN: release binaries; built if not
# given. Points are added to the files, so a part can be measured again by itself.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}/release
if [ -z "${SLUICE_TURN_BIN:-}" ] || [ -z "${BENCH_TURN_BIN:-}" ]; then
    cargo build --quiet --release --locked --workspace --bin sluice-turn --bin bench-turn
fi
server=${SLUICE_TURN_BIN:-$target/sluice-turn} bench=${BENCH_TURN_BIN:-$target/bench-turn}
how=(--real-time)
[ -z "${BENCH_TURN_PLAIN:-}" ] || how=()
for receivers in "" --coalesce; do
    timeout 600 "$bench" --sluice-turn "$server" --out benches/results/turn.json "${how[@]}" $receivers "$@"
done
