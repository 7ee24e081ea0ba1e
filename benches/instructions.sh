#!/bin/bash
# Instructions and heap allocations per forwarded packet, one publisher to 100 subscribers, without sockets.
#
# Valgrind counts what `forward` in fanout.rs executes; the count does not depend on what else the machine does. It knows
# AES-NI but no VAES, so the cipher costs more here than on a processor that has it.
# SLUICE_FANOUT_BIN: a release binary; built if not given.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benches/results/instructions.md}

target=${SLUICE_FANOUT_BIN:-}
if [ -z "$target" ]; then
    cargo build --quiet --release --locked -p bench-micro --bin fanout
    target=${CARGO_TARGET_DIR:-target}/release/fanout
fi
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

measure() { # burst
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*fanout::forward*' --callgrind-out-file="$log/out.$1" \
        "$target" --burst "$1" --seconds 12 >"$log/run.$1" 2>"$log/valgrind.$1"
    local total forwarded
    total=$(grep -oE 'Collected : [0-9]+' "$log/valgrind.$1" | grep -oE '[0-9]+')
    forwarded=$(awk '$1 == "forwarded_packets" { print $2 }' "$log/run.$1")
    echo "$(awk '$1 == "packets_per_batch" { print $2 }' "$log/run.$1") $((total / forwarded)) $(awk '$1 == "allocations" { print $2 }' "$log/run.$1")"
}

{
    echo "# Instructions per forwarded packet"
    echo
    echo "\`benches/instructions.sh\`: one publisher, 100 subscribers, VP8, packets of up to 1,200 bytes, AES-128-GCM; receive, open, store, copy, rewrite, seal."
    echo
    echo "| packets in a batch | instructions per forwarded packet | heap allocations while forwarding |"
    echo "|---|---|---|"
    for burst in 1 8; do
        row=$(measure "$burst")
        read -r packets instructions allocations <<<"$row"
        echo "| $packets | $instructions | $allocations |"
    done
    echo
    echo "Goal: at most 4,700 instructions and no allocation. $(rustc --version), $(valgrind --version), $(uname -m)."
} | tee "$out"
