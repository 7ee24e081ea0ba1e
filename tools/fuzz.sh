#!/bin/bash
# Explores the parsers under libFuzzer: tools/fuzz.sh [-s SECONDS] [TARGET...]; by default every target for 60 seconds.
# tools/fuzz.sh -m [TARGET...] adds to the committed corpus what earlier runs have found, as few and as small inputs as cover it.
#
# Panics are what it looks for, so it needs no sanitizer: no code of ours is unsafe. It needs a C++ compiler for libFuzzer.
# Finds: .cache/fuzz/found/TARGET (inputs that cover something new), .cache/fuzz/crashes/TARGET-*. Put a crash into the
# corpus of its target with its fix, and a unit test where the bug was.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60 merge=false
while getopts s:m option; do
    case $option in
    s) seconds=$OPTARG ;;
    m) merge=true ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

corpus_of() { case $1 in turn_*) echo "$PWD/turn-server/fuzz/corpus/$1" ;; *) echo "$PWD/sfu/fuzz/corpus/$1" ;; esac; }
work=$PWD/.cache/fuzz
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
targets=("$@")
if [ ${#targets[@]} = 0 ]; then mapfile -t targets < <(ls sfu/fuzz/corpus turn-server/fuzz/corpus | grep -v -e ':$' -e '^$'); fi

RUSTC_WRAPPER=$PWD/sfu/fuzz/libfuzzer/rustc.sh CARGO_TARGET_DIR=$target_dir "${CARGO:-cargo}" build --manifest-path sfu/fuzz/libfuzzer/Cargo.toml
binary=$target_dir/debug/fuzz-run
mkdir -p "$work/crashes"
status=0
for name in "${targets[@]}"; do
    corpus=$(corpus_of "$name")
    mkdir -p "$work/found/$name" "$corpus"
    export FUZZ_TARGET=$name
    if $merge; then
        # what is committed stays; of the rest only what adds coverage
        "$binary" -set_cover_merge=1 -use_counters=0 -max_len=2048 -timeout=10 "$corpus" "$work/found/$name" 2>&1 | tail -n 1
        continue
    fi
    seeds=("$corpus")
    case $name in sdp_*) seeds+=(sfu/core/tests/sdp) ;; esac
    limit=4096
    case $name in sdp_*) limit=16384 ;; esac
    printf '%-22s' "$name"
    log=$work/$name.log
    if "$binary" -max_total_time="$seconds" -max_len=$limit -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$work/crashes/$name-" "$work/found/$name" "${seeds[@]}" >"$log" 2>&1; then
        grep -aE "^stat::number_of_executed_units" "$log" | awk '{ print $2 " runs, no find" }'
    else
        status=1
        echo "FAILED, see $log:"
        grep -E "panicked at|Test unit written|ERROR|SUMMARY" -A 2 "$log" | head -n 12
    fi
done
exit $status
