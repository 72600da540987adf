#!/usr/bin/env bash
# `make run`: a broker where none answers, a Discord stand-in where there is no token, rateway, and a worker that shows
# what arrives. Ctrl-C stops what was started here and nothing else.
#   PROFILE=dev|release   how rateway is built (dev)
#   ONCE=1                end when every shard was heard and a command was answered; the exit status says whether
#   SIM_SHARDS=4          shards of the stand-in
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "run: $*" >&2; }
answers() { timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }

pids=() broker=0
clean_up() {
    trap '' INT TERM
    local i
    # Last started, first stopped: the worker before rateway, rateway before what it talks to.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null || continue
        wait_gone "${pids[i]}"
    done
    [ $broker = 0 ] || contrib/rabbitmq.sh stop || true
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

contrib/install.sh build worker

profile=${PROFILE:-dev}
say "building rateway ($profile)"
cargo build --locked --profile "$profile"
case $profile in dev) out=debug ;; *) out=$profile ;; esac
rateway=${CARGO_TARGET_DIR:-target}/$out/rateway

# The broker: the one at AMQP_URI, else one of our own.
if [ -z "${AMQP_URI:-}" ] && [ -n "${AMQP_URI_FILE:-}" ]; then
    AMQP_URI=$(cat "$AMQP_URI_FILE")
fi
uri=${AMQP_URI:-amqp://127.0.0.1:5672}
reachable() {
    local one authority host port
    local -a uris
    IFS=, read -ra uris <<<"$1"
    for one in "${uris[@]}"; do
        authority=${one#*://}
        authority=${authority%%[/?]*}
        authority=${authority##*@}
        case $one in amqps:*) port=5671 ;; *) port=5672 ;; esac
        case $authority in
        \[*\]:*) host=${authority%%\]*} host=${host#\[} port=${authority##*:} ;;
        \[*\]) host=${authority#\[} host=${host%\]} ;;
        *:*) host=${authority%%:*} port=${authority##*:} ;;
        *) host=$authority ;;
        esac
        if answers "$host" "$port"; then return 0; fi
    done
    return 1
}
if reachable "$uri"; then
    say "using the broker that answers at AMQP_URI"
else
    say "no broker answers${AMQP_URI:+ at AMQP_URI}: starting a RabbitMQ for this project"
    contrib/install.sh broker certs
    # An installation may have started the system's own; it is left alone, and ours has its own ports.
    broker=1
    settings=$(contrib/rabbitmq.sh start)
    eval "$settings"
    uri=$RATEWAY_TEST_AMQP_URI
fi
export AMQP_URI=$uri
unset AMQP_URI_FILE

# Discord: the real one with a token, else the stand-in.
shards=()
if [ -z "${DISCORD_TOKEN:-}" ] && [ -z "${DISCORD_TOKEN_FILE:-}" ]; then
    count=${SIM_SHARDS:-4}
    port=8481
    while answers 127.0.0.1 $port; do port=$((port + 1)); done
    say "no DISCORD_TOKEN: starting the Discord stand-in with $count shards on port $port"
    begin "$rateway" sim --addr "127.0.0.1:$port" --shards "$count" --guilds 40 --members 20 --rate 20 --seed 1
    sim=$!
    until answers 127.0.0.1 $port; do
        kill -0 $sim 2>/dev/null || { say "the stand-in did not start"; exit 1; }
        sleep 0.1
    done
    export DISCORD_API_URL=http://127.0.0.1:$port/api/v10 DISCORD_TOKEN=stand-in
    # Each stand-in is a Discord of its own: what was kept of the last one is of no use to this one.
    export STATE_DIR=${STATE_DIR:-none}
    # Without the privileged ones a stand-in that checks them would close with 4014: ask for everything it knows.
    export INTENTS=${INTENTS:-53608447} EXTRA_SHARDS=${EXTRA_SHARDS:-0} SHARDS_PER_CLUSTER=${SHARDS_PER_CLUSTER:-2}
    shards=(--shards "$count")
fi

begin "$rateway"
gateway=$!

# The worker tells by itself when rateway's exchanges are there.
begin /usr/bin/python3 examples/worker.py ${ONCE:+--once} "${shards[@]}"
worker=$!
[ ${#shards[@]} = 0 ] || say "shards come up one after another, 5 s apart: Discord allows no more"
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
