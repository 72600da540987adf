#!/usr/bin/env bash
# `make bench-peers`: rateway next to what one would write in its place, see benches/peers/README.md. Builds everything,
# starts a RabbitMQ of its own, measures, and writes tables and plot into README.md, benches/peers/README.md and docs/.
#   contrib/bench-peers.sh [ARGUMENTS]    with any, only those: --quick is a short run that writes nothing
# RATEWAY_BIN is measured instead of the binary that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."

contrib/install.sh build
rateway=${RATEWAY_BIN:-}
if [ -z "$rateway" ]; then
    cargo build --locked --release
    rateway=$PWD/target/release/rateway
fi
(
    cd benches/peers
    # twilight-gateway speaks one compression, that of its features.
    for compression in zlib zstd; do
        cargo build --locked --release -p forward --features "$compression"
        cp target/release/forward "target/release/forward-$compression"
    done
    cargo build --locked --release -p floor -p compare
)

arguments=("$@")
[ $# -gt 0 ] || arguments=(--write)
case "${arguments[*]}" in
*--only*) wants_broker=$(grep -c rabbitmq <<<"${arguments[*]}" || true) ;;
*) wants_broker=1 ;;
esac
if [ "$wants_broker" -gt 0 ]; then
    contrib/install.sh broker certs
    export RATEWAY_RABBITMQ_DIR=$PWD/target/rabbitmq-bench RATEWAY_RABBITMQ_PORT=${RATEWAY_RABBITMQ_PORT:-5882}
    trap 'contrib/rabbitmq.sh stop || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    settings=$(contrib/rabbitmq.sh start)
    eval "$settings"
    arguments+=(--rabbitmq "$RATEWAY_TEST_AMQP_URI")
fi
benches/peers/target/release/compare --rateway "$rateway" "${arguments[@]}"
