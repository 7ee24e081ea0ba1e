#!/bin/bash
# Fails if a forwarded packet takes 3 % more or fewer instructions than benches/results/instructions.baseline says.
#
# Valgrind counts, so what else the machine does is no matter. Compiler, valgrind and architecture are: where they are others
# than the baseline's, nothing is compared, and it says so. `benches/gate.sh --accept` makes the baseline anew; a commit with
# a new one says why. The build is that of the tests, except that the engine is optimized: the rest is there already.
# Absolute figures, of a release build and with many subscribers: benches/instructions.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/results/instructions.baseline
tolerance_percent=3

optimized=()
for package in sfu-core sfu-sim bench-micro; do
    optimized+=(--config "profile.dev.package.$package.opt-level=3")
done
for setting in overflow-checks=false debug-assertions=false codegen-units=1; do
    optimized+=(--config "profile.dev.package.sfu-core.$setting")
done
"${CARGO:-cargo}" build --quiet --locked --workspace --bin fanout "${optimized[@]}"
binary=${CARGO_TARGET_DIR:-target}/debug/fanout
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

with="$(rustc --version | cut -d' ' -f1,2) $(valgrind --version) $(uname -m)"

measure() { # packets in a batch -> instructions per forwarded packet
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*fanout::forward*' --callgrind-out-file="$log/out.$1" \
        "$binary" --subscribers 20 --burst "$1" --seconds 8 >"$log/run.$1" 2>"$log/valgrind.$1"
    local total forwarded
    total=$(grep -oE 'Collected : [0-9]+' "$log/valgrind.$1" | grep -oE '[0-9]+')
    forwarded=$(awk '$1 == "forwarded_packets" { print $2 }' "$log/run.$1")
    echo $((total / forwarded)) >"$log/measured.$1"
}

bursts=(1 8)
running=()
for burst in "${bursts[@]}"; do
    measure "$burst" &
    running+=($!)
done
for measurement in "${running[@]}"; do wait "$measurement"; done

if [ "${1:-}" = --accept ]; then
    {
        echo "# packets in a batch, instructions per forwarded packet; by benches/gate.sh --accept"
        echo "with $with"
        for burst in "${bursts[@]}"; do echo "$burst $(cat "$log/measured.$burst")"; done
    } | tee "$baseline"
    exit
fi

passed=0 failed=0 ignored=0
for burst in "${bursts[@]}"; do
    measured=$(cat "$log/measured.$burst")
    expected=$(awk -v burst="$burst" '$1 == burst { print $2 }' "$baseline")
    if ! grep -qxF "with $with" "$baseline"; then
        echo "batches of $burst: $measured instructions; not compared: this is $with, the baseline is $(grep ^with "$baseline")"
        ignored=$((ignored + 1))
    elif awk -v m="$measured" -v e="$expected" -v t="$tolerance_percent" 'BEGIN { exit !(m * 100 <= e * (100 + t) && m * 100 >= e * (100 - t)) }'; then
        echo "batches of $burst: $measured instructions, baseline $expected"
        passed=$((passed + 1))
    else
        echo "batches of $burst: FAILED: $measured instructions, baseline $expected (+-$tolerance_percent %)"
        failed=$((failed + 1))
    fi
done
echo "test result: done. $passed passed; $failed failed; $ignored ignored;"
[ "$failed" = 0 ]
