#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing when nothing is.
#   contrib/install.sh NEED...     where NEED is build, broker, worker, certs, clients or browser
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "install: $*" >&2; }

packages=()
for need in "$@"; do
    case $need in
    build)
        command -v cmake >/dev/null || packages+=(cmake)
        command -v cc >/dev/null || packages+=(gcc libc6-dev)
        command -v make >/dev/null || packages+=(make)
        ;;
    broker) [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages+=(rabbitmq-server) ;;
    worker) /usr/bin/python3 -c 'import pika' 2>/dev/null || packages+=(python3-pika) ;;
    certs) command -v openssl >/dev/null || packages+=(openssl) ;;
    clients)
        command -v curl >/dev/null || packages+=(curl)
        command -v wrk >/dev/null || packages+=(wrk)
        /usr/bin/python3 -c 'import requests' 2>/dev/null || packages+=(python3-requests)
        ;;
    browser)
        command -v "${RATEWAY_TEST_BROWSER:-chromium}" >/dev/null || packages+=(chromium)
        # Without any font a page has no text.
        fc-list 2>/dev/null | grep -q . || packages+=(fonts-dejavu-core)
        ;;
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

[ ${#packages[@]} -gt 0 ] || exit 0

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
