#!/usr/bin/env bash
# `make run`: without a token `rateway demo`, everything in one process; with one, rateway for your bot and a worker that shows
# what arrives, at the broker of AMQP_URI or at the one that rateway brings along. Ctrl-C stops what was started here.
#   PROFILE=dev|release   how rateway is built (dev)
#   ONCE=1                end when everything was seen once; the exit status says whether
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "run: $*" >&2; }

contrib/install.sh build
profile=${PROFILE:-dev}
say "building rateway ($profile)"
cargo build --locked --profile "$profile"
case $profile in dev) out=debug ;; *) out=$profile ;; esac
rateway=${CARGO_TARGET_DIR:-target}/$out/rateway

if [ -z "${DISCORD_TOKEN:-}" ] && [ -z "${DISCORD_TOKEN_FILE:-}" ]; then
    say "no DISCORD_TOKEN: rateway demo, with a stand-in for Discord"
    exec "$rateway" demo ${ONCE:+--once} ${ARGS:-}
fi

contrib/install.sh worker
pids=()
clean_up() {
    trap '' INT TERM
    local i
    # Last started, first stopped: the worker before rateway.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null || continue
        wait_gone "${pids[i]}"
    done
}
wait_gone() {
    local waited=0
    while kill -0 "$1" 2>/dev/null; do
        [ $waited -lt 150 ] || { kill -KILL "$1" 2>/dev/null || true; return; }
        sleep 0.1
        waited=$((waited + 1))
    done
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts a program in a session of its own, so that Ctrl-C reaches it through clean_up, in order.
begin() {
    setsid "$@" </dev/null &
    pids+=($!)
}

begin "$rateway"
gateway=$!
if [ -z "${AMQP_URI:-}" ] && [ -z "${AMQP_URI_FILE:-}" ]; then
    AMQP_URI=amqp://guest:guest@${BROKER_ADDR:-127.0.0.1:5672}
    export AMQP_URI=${AMQP_URI/@:/@127.0.0.1:}
fi
# The worker tells by itself when rateway's exchanges are there.
begin /usr/bin/python3 examples/worker.py ${ONCE:+--once}
worker=$!
say "running; Ctrl-C stops it"

status=0
wait -n $gateway $worker || status=$?
if kill -0 $gateway 2>/dev/null; then
    # In a run with ONCE the worker's end is the end, and its status the answer.
    [ -n "${ONCE:-}" ] || say "the worker ended with status $status"
else
    say "rateway ended with status $status"
fi
exit $status
