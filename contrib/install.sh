#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing when nothing is.
#   contrib/install.sh NEED...     where NEED is build, c (build without Rust), static, static-debian, broker, worker, certs, clients,
#                                  clients-amqp, workers, browser, counting, yaml, cpp, fuzz or nightly
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "install: $*" >&2; }

packages=()
for need in "$@"; do
    case $need in
    build | c)
        command -v cmake >/dev/null || packages+=(cmake)
        command -v cc >/dev/null || packages+=(gcc libc6-dev)
        command -v make >/dev/null || packages+=(make)
        ;;
    static)
        command -v musl-gcc >/dev/null || packages+=(musl-tools)
        command -v file >/dev/null || packages+=(file)
        command -v readelf >/dev/null || packages+=(binutils)
        ;;
    static-debian)
        # A compiler that has the source of its standard library, and the unwinder that this takes.
        for package in rustc-web cargo-web rust-web-src libunwind-14-dev; do
            dpkg-query -W -f '${Status}' $package 2>/dev/null | grep -q ' installed' || packages+=($package)
        done
        ;;
    broker) [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages+=(rabbitmq-server) ;;
    worker) /usr/bin/python3 -c 'import pika' 2>/dev/null || packages+=(python3-pika) ;;
    certs) command -v openssl >/dev/null || packages+=(openssl) ;;
    clients)
        command -v curl >/dev/null || packages+=(curl)
        command -v wrk >/dev/null || packages+=(wrk)
        /usr/bin/python3 -c 'import requests' 2>/dev/null || packages+=(python3-requests)
        ;;
    clients-amqp)
        command -v node >/dev/null || packages+=(nodejs)
        command -v npm >/dev/null || packages+=(npm)
        /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
        /usr/bin/python3 -c 'import pika' 2>/dev/null || packages+=(python3-pika)
        ;;
    workers)
        command -v node >/dev/null || packages+=(nodejs)
        command -v npm >/dev/null || packages+=(npm)
        /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
        ;;
    browser)
        command -v "${RATEWAY_TEST_BROWSER:-chromium}" >/dev/null || packages+=(chromium)
        # Without any font a page has no text.
        fc-list 2>/dev/null | grep -q . || packages+=(fonts-dejavu-core)
        ;;
    counting) command -v valgrind >/dev/null || packages+=(valgrind) ;;
    yaml) /usr/bin/python3 -c 'import yaml' 2>/dev/null || packages+=(python3-yaml) ;;
    cpp) command -v c++ >/dev/null || packages+=(g++) ;;
    fuzz | nightly) ;;
    *) say "unknown need: $need"; exit 2 ;;
    esac
done

# Rust is not a package to install behind somebody's back, and Debian 12's own is too old.
case " $* " in *" build "*)
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null; then
        say "cargo is missing. Rust $wanted or later is needed: https://rustup.rs"
        exit 1
    fi
    found=$(cargo --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        say "cargo $found is too old. Rust $wanted or later is needed: https://rustup.rs"
        exit 1
    fi
    ;;
esac

# What the registries of Python and JavaScript have, in target/clients, with versions that do not move.
clients_amqp() {
    local folder=$PWD/target/clients aio_pika=9.5.5 amqplib=0.10.5
    if [ ! -d "$folder/python/lib"/python3*/site-packages/aio_pika-$aio_pika.dist-info ]; then
        say "installing aio-pika $aio_pika into target/clients"
        /usr/bin/python3 -m venv --clear "$folder/python"
        "$folder/python/bin/pip" install --quiet --disable-pip-version-check "aio-pika==$aio_pika"
    fi
    if ! grep -qs "\"version\": \"$amqplib\"" "$folder/node/node_modules/amqplib/package.json"; then
        say "installing amqplib $amqplib into target/clients"
        mkdir -p "$folder/node"
        echo '{"private":true}' >"$folder/node/package.json"
        npm install --prefix "$folder/node" --silent --no-fund --no-audit "amqplib@$amqplib"
    fi
    CARGO_TARGET_DIR=$folder/lapin cargo build --quiet --locked \
        --manifest-path tests/broker_service/clients/lapin/Cargo.toml
}
# The client libraries of examples/, in the versions that stand there, below target/examples. A copy of the list of versions
# goes last: it stands for a whole installation.
workers() {
    local folder=$PWD/target/examples
    if ! cmp -s examples/requirements.txt "$folder/python/installed"; then
        say "installing aio-pika below target/examples"
        /usr/bin/python3 -m venv --clear "$folder/python"
        "$folder/python/bin/pip" install --quiet --disable-pip-version-check -r examples/requirements.txt
        cp examples/requirements.txt "$folder/python/installed"
    fi
    if ! cmp -s examples/node/package-lock.json "$folder/node/installed"; then
        say "installing amqplib below target/examples"
        mkdir -p "$folder/node"
        cp examples/node/package.json examples/node/package-lock.json "$folder/node/"
        npm ci --prefix "$folder/node" --silent --no-audit --no-fund
        cp examples/node/package-lock.json "$folder/node/installed"
    fi
    CARGO_TARGET_DIR=$folder/lapin cargo build --quiet --locked --manifest-path examples/lapin/Cargo.toml
}
# Rust's own tools for fuzzing and sanitizers. Without rustup there is no nightly to be had; the callers then say what
# they do instead.
nightly() {
    command -v rustup >/dev/null || return 0
    if ! rustup run nightly rustc --version >/dev/null 2>&1; then
        say "installing the nightly toolchain"
        rustup toolchain install nightly --profile minimal --no-self-update >&2 || say "no nightly is to be had"
    fi
}
fuzz() {
    nightly
    if ! cargo fuzz --version >/dev/null 2>&1; then
        say "installing cargo-fuzz"
        cargo install --quiet --locked cargo-fuzz
    fi
}
finish() {
    case " $* " in *" nightly "*) nightly ;; esac
    case " $* " in *" fuzz "*) fuzz ;; esac
    case " $* " in *" clients-amqp "*) clients_amqp ;; esac
    case " $* " in *" workers "*) workers ;; esac
}

if [ ${#packages[@]} -eq 0 ]; then
    finish "$@"
    exit 0
fi

command -v apt-get >/dev/null || {
    say "missing: ${packages[*]}. These are Debian's names; without apt-get they have to be installed by hand"
    exit 1
}
if [ "$(id -u)" = 0 ]; then
    become=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    become=(sudo -n)
elif command -v sudo >/dev/null && [ -t 0 ]; then
    become=(sudo)
else
    say "missing, and there is no way to become root here. As root: apt-get install ${packages[*]}"
    exit 1
fi
say "installing ${packages[*]}"
apt=("${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A fresh container has no package lists yet.
if ! "${apt[@]}" install "${packages[@]}" >"$log" 2>&1; then
    "${apt[@]}" update >>"$log" 2>&1 || true
    "${apt[@]}" install "${packages[@]}" >>"$log" 2>&1 || {
        cat "$log" >&2
        say "installing ${packages[*]} failed, see above"
        exit 1
    }
fi
finish "$@"
