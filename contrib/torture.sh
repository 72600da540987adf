#!/usr/bin/env bash
# `make torture`: what `make test` does a few times, many times: kill -9 under load (ROUNDS, 300), a broker that is away
# for a minute, and seeds of the simulations (SEEDS, 30,000). With a RabbitMQ of its own, as `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

contrib/install.sh build worker clients
if [ -z "${RATEWAY_TEST_AMQP_URI:-}" ]; then
    contrib/install.sh broker certs
    export RATEWAY_RABBITMQ_DIR=$PWD/target/rabbitmq-test RATEWAY_RABBITMQ_PORT=${RATEWAY_RABBITMQ_PORT:-5782}
    trap 'contrib/rabbitmq.sh stop || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    settings=$(contrib/rabbitmq.sh start)
    eval "$settings"
fi

export RATEWAY_KILLS=${ROUNDS:-300} RATEWAY_OUTAGE_S=${OUTAGE_S:-60} RATEWAY_DAMAGES=${DAMAGES:-30}
for test in kills_cost_nothing kills_with_a_cache an_outage damaged_files what_is_on_disk; do
    cargo test --locked --test gateway "$test" -- --nocapture
done
# The stand-in's ledger holds 65,536 events, which this one needs all of.
RATEWAY_KILLS=$((RATEWAY_KILLS < 40 ? RATEWAY_KILLS : 40)) cargo test --locked --test gateway after_kills -- --nocapture
export RATEWAY_SEEDS=${SEEDS:-30000}
cargo test --locked --lib -- --nocapture nothing_is_lost_between a_spool_is_a_queue 2>&1 | grep -v '^RATEWAY_SEED='
cargo test --locked --test shard_sim
