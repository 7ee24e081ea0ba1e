#!/bin/bash
# Cargo calls this in place of rustc (RUSTC_WRAPPER): the crates that read what strangers send are compiled with LLVM's
# coverage pass, all others as always. The pass is part of every compiler, so it needs no nightly one.
set -euo pipefail
crate='' before=''
for argument in "$@"; do
    if [ "$before" = --crate-name ]; then crate=$argument; fi
    before=$argument
done
flags=()
case $crate in
fuzz_run | fuzz_targets | turn_fuzz | turn_proto | sfu_* | signaling_* | rtc_sctp | rtc_sdp | rtc_datachannel | dimpl)
    flags+=(-Cpasses=sancov-module)
    for argument in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$argument")
    done
    ;;
esac
exec "$@" "${flags[@]}"
