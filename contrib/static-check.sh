#!/usr/bin/env bash
# What has to hold for the static binary that `make static` built: small, static, and at work in an empty root.
#   contrib/static-check.sh [BINARY]     by default target/static/rateway
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/static/rateway}
bytes_max=$((12 * 1024 * 1024))

say() { echo "static: $*" >&2; }
fail() { say "$*"; exit 1; }

contrib/install.sh static
[ -f "$binary" ] || fail "$binary is not there: make static"

bytes=$(stat -c %s "$binary")
[ "$bytes" -lt $bytes_max ] || fail "$bytes bytes are not below $bytes_max"

# LC_ALL, as these programs speak the user's language.
kind=$(LC_ALL=C file -b "$binary")
case $kind in
*"statically linked"* | *"static-pie linked"*) ;;
*) fail "file does not call it static: $kind" ;;
esac
headers=$(LC_ALL=C readelf --program-headers --dynamic --wide "$binary")
if grep -E 'INTERP|\(NEEDED\)' <<<"$headers" >&2; then
    fail "it asks for an interpreter or a library"
fi

# A root with the binary and nothing else: no /etc, /proc, /dev or /tmp.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
install -m 0755 "$binary" "$root/rateway"
# Where the commands are, as nothing is said inside of where to look; not everybody's PATH has the second folder.
chroot=$(PATH=$PATH:/usr/sbin command -v chroot)
if [ "$(id -u)" = 0 ]; then
    enter=("$chroot" "$root")
elif unshare --user --map-root-user true 2>/dev/null; then
    enter=("$(command -v unshare)" --user --map-root-user "$chroot" "$root")
else
    fail "an empty root takes root, or user namespaces, and there is neither here: nothing was run"
fi

# Runs the binary there, without any variable but those given before --.
inside() {
    local variables=()
    while [ "$1" != -- ]; do variables+=("$1"); shift; done
    shift
    timeout 120 env -i "${variables[@]}" "${enter[@]}" /rateway "$@"
}
# Runs it and holds what it prints to a pattern.
expect() {
    local pattern=$1 printed status=0
    shift
    printed=$(inside "$@" 2>&1) || status=$?
    if [ $status -ne 0 ] || ! grep -qE "$pattern" <<<"$printed"; then
        printf '%s\n' "$printed" >&2
        fail "in an empty root, ${*}: status $status, and no ${pattern} in the above"
    fi
}

expect '^rateway [0-9]+\.[0-9]+\.[0-9]+$' -- --version
expect '^The configuration is good' DISCORD_TOKEN=token INTENTS=GUILDS -- check
expect '^demo: Discord sent [1-9][0-9]* events' -- demo --once
left=$(find "$root" -mindepth 1 ! -path "$root/rateway")
[ -z "$left" ] || fail "it left something in its root: $left"

say "$binary: $bytes bytes, $kind"
