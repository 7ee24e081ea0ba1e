#!/bin/bash
# Sluice beside its peers, in one run: alternating, one core for the server and the other for the load, medians and ratios.
#
#   benches/compare.sh [--runs N] [--peers "sluice mediasoup janus livekit"] [--scenarios "NAME..."] [--steady 5s] [--skip-micro] [--skip-shape]
#
# Needs the peers (benches/peers/install.sh; one that is not there is left out, which the results say) and a quiet machine with two cores or
# more. Writes benches/results/comparison.json, comparison.md and the plots. Without building it should take a quarter of an hour.
#   SLUICE_BIN, SLUICE_LOAD_BIN, SLUICE_FORWARDING_BIN: release binaries; built if not given
#   SLUICE_PEERS_DIR: where install.sh put the peers       SERVER_CORE, CLIENT_CORE: 1 and 0 by default
set -euo pipefail
cd "$(dirname "$0")/.."

runs=5 peers="sluice mediasoup janus livekit" steady=5s
scenarios="reference-unbatched reference-frames-of-8"
micro=yes shape=yes
while [ $# -gt 0 ]; do
    case $1 in
    --runs) runs=$2; shift 2 ;;
    --peers) peers=$2; shift 2 ;;
    --scenarios) scenarios=$2; shift 2 ;;
    --steady) steady=$2; shift 2 ;;
    --skip-micro) micro=no; shift ;;
    --skip-shape) shape=no; shift ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
SERVER_CORE=${SERVER_CORE:-1} CLIENT_CORE=${CLIENT_CORE:-0}
export SLUICE_PEERS_DIR=${SLUICE_PEERS_DIR:-$PWD/.cache/peers}
target=${CARGO_TARGET_DIR:-target}/release
results=benches/results
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "${SLUICE_BIN:-}" ]; then
    cargo build --quiet --release --locked -p sluice
    SLUICE_BIN=$target/sluice
fi
if [ -z "${SLUICE_LOAD_BIN:-}" ] || { [ $micro = yes ] && [ -z "${SLUICE_FORWARDING_BIN:-}" ]; }; then
    cargo build --quiet --release --locked --workspace --bin sluice-load --bin forwarding
fi
load=${SLUICE_LOAD_BIN:-$target/sluice-load} forwarding=${SLUICE_FORWARDING_BIN:-$target/forwarding}

say() { echo "compare: $*" >&2; }
is_installed() {
    case $1 in
    sluice) true ;;
    janus) [ -n "$own_ip" ] && [ -x "$SLUICE_PEERS_DIR/deb/usr/bin/janus" ] ;;
    mediasoup) [ -x "$SLUICE_PEERS_DIR/mediasoup/worker" ] ;;
    livekit) [ -x "$SLUICE_PEERS_DIR/livekit/server" ] ;;
    *) false ;;
    esac
}
own_ip=$(ip -4 -o address show scope global 2>/dev/null | awk 'NR == 1 { sub("/.*", "", $4); print $4 }')
present=() missing=()
for peer in $peers; do
    if is_installed "$peer"; then present+=("$peer"); else missing+=("$peer"); say "$peer is not there: benches/peers/install.sh $peer"; fi
done

port=17000
count=0
# measure PEER SCENARIO LABEL OPTION...: one run; its report becomes a file.
measure() {
    local peer=$1 scenario=$2 label=$3 server
    shift 3
    count=$((count + 1)) port=$((port + 1))
    if [ "$peer" = sluice ]; then
        server=(--sluice "$SLUICE_BIN" --shards 1 --adapter sluice)
    else
        server=(--adapter "$peer" --server "benches/peers/run.sh $peer $port 21000" --url "ws://127.0.0.1:$port")
    fi
    # Janus's ICE library offers no loopback addresses and sends by the interface that it took the address of.
    [ "$peer" != janus ] || server+=(--client-ip "$own_ip")
    local file
    file=$work/$(printf %04d "$count")-$label-$peer.json
    if ! timeout -k 5 150 "$load" "benches/scenarios/$scenario.toml" "${server[@]}" --server-core "$SERVER_CORE" --client-core "$CLIENT_CORE" \
        --steady "$steady" --json "$file" "$@" >"$work/out" 2>"$work/errors"; then
        say "$peer, $label: $(grep -E '^(error|problem)' "$work/errors" | head -n 3 | paste -sd'; ')"
    fi
    tail -n +2 "$work/out" >&2
}

for ((run = 1; run <= runs; run++)); do
    say "round $run of $runs"
    for scenario in $scenarios; do
        for peer in "${present[@]}"; do
            measure "$peer" "$scenario" "$scenario"
        done
    done
done
if [ $shape = yes ]; then
    # Costs have to stay flat: with the number of subscribers, and with the number of rooms and tracks, at about 50,000 packets/s.
    for ((run = 1; run <= (runs + 1) / 2; run++)); do
        for shape in benches/scenarios/shape-*.toml; do
            [ -f "$shape" ] || continue
            shape=$(basename "$shape" .toml)
            measure sluice "$shape" "$shape"
        done
    done
fi
if [ $micro = yes ]; then
    say "engine and floor"
    taskset -c "$SERVER_CORE" "$forwarding" --json "$work/forwarding" >&2
fi

versions() {
    "$SLUICE_BIN" version | head -n 1
    for peer in "${present[@]}"; do
        case $peer in
        janus) echo "janus $(sed -nE 's/^janus_version=([^ ]+).*/\1/p' benches/peers/install.sh) (Debian)" ;;
        mediasoup) echo "mediasoup $(sed -nE 's/.*"mediasoup": "([^"]+)".*/\1/p' benches/peers/mediasoup/package.json) (npm, worker built from its sources)" ;;
        livekit) echo "livekit $(sed -nE 's/^livekit_version=([^ ]+).*/\1/p' benches/peers/install.sh) (Go module)" ;;
        esac
    done
}
versions >"$work/versions"
printf '%s\n' "${missing[@]}" >"$work/missing"
python3 benches/results/render.py --collect "$work" --command "benches/compare.sh --runs $runs --peers \"$peers\" --scenarios \"$scenarios\" --steady $steady" \
    --date "$(date -u +%F)" --commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
python3 benches/results/render.py
say "$results/comparison.md is written"
