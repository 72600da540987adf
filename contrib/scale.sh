#!/usr/bin/env bash
# Many shards on one machine: how long until all are up, what they take. Against the stand-in, with a broker of its own.
#   contrib/scale.sh SHARDS EVENTS_PER_SECOND [SECONDS]      0 events are idle shards; settings of rateway go in before it:
#   CACHE_ENABLED=true contrib/scale.sh 1000 50000
set -euo pipefail
cd "$(dirname "$0")/.."

shards=$1 rate=$2 seconds=${3:-15}
contrib/install.sh build clients
cargo build --locked --release
rateway=target/release/rateway
# A file for each socket, here as well as in rateway itself.
ulimit -n "$(ulimit -Hn)"

log=$(mktemp -d)
children=()
trap 'kill "${children[@]}" 2>/dev/null || true; wait; rm -rf "$log"' EXIT
port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
sim_port=$(port) broker_port=$(port) http_port=$(port)

pace=()
[ "$rate" = 0 ] || pace=(--full-speed --rate "$rate")
"$rateway" sim "${pace[@]}" --shards "$shards" --guilds "$((4 * shards))" --members 20 --max-concurrency "$shards" \
    --session-starts 1000000 --addr "127.0.0.1:$sim_port" >"$log/sim" 2>&1 &
children+=($!)
BROKER_ADDR=127.0.0.1:$broker_port "$rateway" broker >"$log/broker" 2>&1 &
children+=($!)
sleep 2

began=$(date +%s%N)
DISCORD_TOKEN=scale INTENTS=53608447 DISCORD_API_URL=http://127.0.0.1:$sim_port/api/v10 SHARD_COUNT=$shards \
    AMQP_URI=amqp://guest:guest@127.0.0.1:$broker_port HTTP_ADDR=127.0.0.1:$http_port THREADS=${THREADS:-1} \
    CACHE_ENABLED=${CACHE_ENABLED:-false} STATE_DIR=${STATE_DIR:-none} LOG_LEVEL=warn "$rateway" >"$log/rateway" 2>&1 &
process=$!
children+=($process)
until curl -sf "http://127.0.0.1:$http_port/readyz" >/dev/null; do
    kill -0 "$process" 2>/dev/null || { cat "$log/rateway" >&2; exit 1; }
    sleep 0.1
done
echo "$shards shards are up after $((($(date +%s%N) - began) / 1000000)) ms"
sleep 5

cpu_ns() { cat /proc/"$process"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }
events() {
    curl -s "http://127.0.0.1:$http_port/metrics" | awk '/^rateway_published_total/ { sum += $2 } END { printf "%.0f", sum }'
}
cpu=$(cpu_ns) published=$(events)
sleep "$seconds"
cpu=$(($(cpu_ns) - cpu)) published=$(($(events) - published))
awk -v cpu="$cpu" -v events="$published" -v s="$seconds" 'BEGIN {
    printf "%.0f events a second, %.1f %% of a core", events / s, cpu / s / 1e7
    if (events > 0) printf ", %.1f us an event", cpu / 1e3 / events
    print ""
}'
resident=$(awk '/^VmRSS/ { print $2 }' "/proc/$process/status")
echo "$resident KiB resident, $(find "/proc/$process/fd" -mindepth 1 | wc -l) files open"
if [ -s "$log/rateway" ]; then
    echo "what it logged:"
    cut -c1-200 "$log/rateway" | tail -n 5
fi
