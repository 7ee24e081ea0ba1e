#!/bin/bash
# CPU per relayed packet: sluice-turn and coturn side by side. benches/turn/run.sh [-q]; -q: few points.
#
# Needs coturn (tools/setup.sh test) and a release build: cargo build --release --workspace --bin sluice-turn --bin bench-turn
# Each point is measured for both servers in turn, so that a change of the machine's speed meets both. One thread relays in each.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${BIN_DIR:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/release}
folder=$(mktemp -d)
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT
pids=()
points="1 10 100 1000" bursts="1 8" seconds=${SECONDS_PER_POINT:-2} rate=${RATE:-40000}
[ "${1:-}" = -q ] && points="1 1000"

free() { python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
echo "anna: secret" >"$folder/users"
ours=$(free) theirs=$(free)
cat >"$folder/turn.toml" <<END
listen = ["127.0.0.1"]
udp_port = $ours
tcp = false
users_file = "$folder/users"
allow = ["127.0.0.0/8"]
relay_ports = "20000-29999"
max_allocations_per_user = 2000
max_allocations_per_address = 2000
log_level = "warn"
END
"$bin/sluice-turn" serve --config "$folder/turn.toml" >"$folder/ours.log" 2>&1 &
pids+=($!) our_pid=$!
turnserver -n --no-cli --no-tls --no-dtls -L 127.0.0.1 -p "$theirs" -a -u anna:secret -r test --allow-loopback-peers -m 1 \
    --min-port 30000 --max-port 32000 --no-stdout-log --log-file /dev/null --simple-log --pidfile "$folder/pid" --userdb "$folder/db" >/dev/null 2>&1 &
pids+=($!) their_pid=$!
ulimit -n "$(ulimit -H -n)"
for _ in $(seq 50); do turnutils_stunclient -p "$theirs" 127.0.0.1 >/dev/null 2>&1 && break; done

field() { python3 -c 'import json,sys; print(json.load(sys.stdin)["cpu_ns_per_packet"])'; }
printf '%-6s %6s %12s %12s %12s %8s\n' way burst allocations 'sluice ns' 'coturn ns' ratio
for burst in $bursts; do
    for direction in up down; do
        for allocations in $points; do
            point=(--allocations "$allocations" --burst "$burst" --direction "$direction" --rate "$rate" --seconds "$seconds")
            a=$("$bin/bench-turn" --server "127.0.0.1:$ours" --pid "$our_pid" "${point[@]}" | tee -a "$folder/raw" | field)
            b=$("$bin/bench-turn" --server "127.0.0.1:$theirs" --pid "$their_pid" "${point[@]}" | tee -a "$folder/raw" | field)
            printf '%-6s %6s %12s %12.0f %12.0f %8.2f\n' "$direction" "$burst" "$allocations" "$a" "$b" "$(python3 -c "print($a / $b)")"
        done
    done
done
cat "$folder/raw" >&2
