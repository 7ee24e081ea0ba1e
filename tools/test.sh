#!/bin/bash
# Runs every check and test, goes on after failures, and ends with one line: N passed, N failed, N skipped.
#
# A check (format, lints, licences) counts as one test. Tests with real browsers and SDKs that fail are run once more, and the totals
# say how many passed only then: those clients have rare failures of their own. The output of each step is kept in .cache/test-logs/.
# `tools/test.sh NAME...` runs only the named steps.
set -uo pipefail
cd "$(dirname "$0")/.."

only=("$@")
logs=.cache/test-logs
mkdir -p "$logs"
SLUICE_BIN=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/sluice
export SLUICE_BIN
export PATH=$PWD/.cache/node/bin:$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin
export NO_COLOR=1 CARGO_TERM_COLOR=never

passed=0 failed=0 skipped=0 unsteady=0
failures=()

# count LOG REGEX: the sum of the numbers that the regex captures, 0 if there are none.
count() { sed -nE "s/$2/\\1/p" "$1" | awk '{ n += $1 } END { print n + 0 }'; }

# step NAME KIND COMMAND...: KIND says what the command prints at its end.
step() {
    local name=$1 kind=$2 log=$logs/$1.log began=$SECONDS status=0 p=0 f=0 s=0 u=0
    shift 2
    if [ ${#only[@]} -gt 0 ] && [[ ! " ${only[*]} " == *" $name "* ]]; then return; fi
    printf '%-14s' "$name"
    "$@" >"$log" 2>&1 || status=$?
    case $kind in
    check) p=$((status == 0)) ;;
    cargo)
        p=$(count "$log" '^test result: .* ([0-9]+) passed;.*')
        f=$(count "$log" '^test result: .* ([0-9]+) failed;.*')
        s=$(count "$log" '^test result: .* ([0-9]+) ignored;.*')
        ;;
    node)
        p=$(count "$log" '^totals: ([0-9]+) passed.*')
        f=$(count "$log" '^totals: .* ([0-9]+) failed.*')
        s=$(count "$log" '^totals: .* ([0-9]+) skipped.*')
        u=$(count "$log" '^totals: .* ([0-9]+) unsteady$')
        ;;
    vitest)
        p=$(count "$log" '^ *Tests .*[^0-9]([0-9]+) passed.*')
        f=$(count "$log" '^ *Tests .*[^0-9]([0-9]+) failed.*')
        s=$(count "$log" '^ *Tests .*[^0-9]([0-9]+) (skipped|todo).*')
        ;;
    pytest)
        p=$(tail -n 1 "$log" | grep -oE '[0-9]+ passed' | cut -d' ' -f1)
        f=$(tail -n 1 "$log" | grep -oE '[0-9]+ (failed|errors?)' | awk '{ n += $1 } END { print n + 0 }')
        s=$(tail -n 1 "$log" | grep -oE '[0-9]+ skipped' | cut -d' ' -f1)
        u=$(tail -n 1 "$log" | grep -oE '[0-9]+ rerun' | cut -d' ' -f1)
        ;;
    esac
    p=${p:-0} f=${f:-0} s=${s:-0} u=${u:-0}
    # a command that fails without naming a failed test (does not compile, crashes) is one failure; so is one without any test
    if [ "$f" = 0 ] && { [ "$status" != 0 ] || [ $((p + s)) = 0 ]; }; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s)) unsteady=$((unsteady + u))
    printf '%5d passed %3d failed %3d skipped %5d s%s\n' "$p" "$f" "$s" $((SECONDS - began)) "$([ "$u" = 0 ] || echo "  ($u run again)")"
    if [ "$u" != 0 ]; then grep -E '^once more, alone: |^RERUN |^(FAILED|E  ) ' "$log" | head -n 20; fi
    if [ "$f" != 0 ]; then
        failures+=("$name")
        echo "---- $log"
        failure_excerpt "$kind" "$log"
        echo "----"
    fi
}

# The part of a log that says what failed.
failure_excerpt() {
    case $1 in
    cargo) { grep -nE '^(error|warning: unused|thread .* panicked|---- |failures:|test .*FAILED)' "$2" | head -n 40; tail -n 40 "$2"; } ;;
    node) { grep -nE '^ *(not ok|✖)' "$2" | head -n 40; tail -n 60 "$2"; } ;;
    *) tail -n 80 "$2" ;;
    esac
}

deny() {
    cargo fetch --locked --quiet && .cache/tools/bin/cargo-deny --offline --log-level error check bans licenses sources
}

# Networks of their own need root; without it this fails and says so.
net() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo --non-interactive --preserve-env)
    "${sudo[@]}" .cache/venv/bin/python -m pytest -q --reruns 1 tests/net --junitxml=tests/net/out/junit.xml
}

step format check cargo fmt --all --check
step licences check deny
step demo check tools/web.sh
step clippy check tools/clippy.sh
step rust cargo cargo test --locked --workspace --no-fail-fast
step instructions cargo benches/gate.sh
step binary check cargo build --locked -p sluice -p bench-load
step deploy pytest .cache/venv/bin/python -m pytest -q tests/deploy
step demo-unit vitest npm --prefix web-demo run --silent test
step e2e-types check npm --prefix tests/e2e run --silent check
step e2e node node tools/node-suite.js tests/e2e
step compat-types check npm --prefix tests/compat run --silent check
step compat node node tools/node-suite.js tests/compat
step python pytest .cache/venv/bin/python -m pytest -q --reruns 1 tests/python --junitxml=tests/python/out/junit.xml
step net pytest net

if [ ${#failures[@]} -gt 0 ]; then echo "failed: ${failures[*]}"; fi
if [ "$unsteady" != 0 ]; then echo "unsteady: $unsteady failed once and were run again"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
