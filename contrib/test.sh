#!/usr/bin/env bash
# `make test`: everything that has to hold. Installs what is missing, starts a RabbitMQ of its own with a TLS listener
# (the tests restart it, so it is never somebody else's) and stops it at the end, also after a failure.
# With RATEWAY_TEST_AMQP_URI already set, the broker, CA and control command in these variables are used as they are.
set -euo pipefail
cd "$(dirname "$0")/.."

# With the seconds since the start, so that it shows where they go.
step() { echo "== $* (after $SECONDS s)" >&2; }

step "what is needed"
contrib/install.sh build worker clients clients-amqp workers browser yaml cpp counting static
started=no building=
stop() {
    [ -z "$building" ] || kill "$building" 2>/dev/null || true
    [ $started = no ] || contrib/rabbitmq.sh stop || true
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ -z "${RATEWAY_TEST_AMQP_URI:-}" ]; then
    contrib/install.sh broker certs
    export RATEWAY_RABBITMQ_DIR=$PWD/target/rabbitmq-test RATEWAY_RABBITMQ_PORT=${RATEWAY_RABBITMQ_PORT:-5782}
    started=yes
    settings=$(contrib/rabbitmq.sh start)
    eval "$settings"
fi

step "formatting"
cargo fmt --check
step "clippy"
cargo clippy --locked --all-targets -- -D warnings
step "scripts"
for script in contrib/*.sh .ci/run; do bash -n "$script"; done
/usr/bin/python3 - examples/*.py contrib/*.py <<'PY'
import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)
PY
node --check examples/node/worker.js
contrib/check.py
step "building the tests"
cargo test --locked --no-run
step "tests"
# Most of them wait for something: there are more at once than cores, and what the next steps need is built meanwhile.
later() {
    nice contrib/instructions.sh build
    FUZZ_SECONDS=0 FUZZ_SANITIZER=none nice contrib/fuzz.sh
    CARGO_TARGET_DIR=target/twilight nice cargo build --locked --manifest-path examples/twilight/Cargo.toml
    nice contrib/static.sh
}
later >target/later.log 2>&1 &
building=$!
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((3 * $(nproc)))} cargo test --locked
step "the identify queue as a library"
tree=$(cargo tree --locked -e normal --no-default-features --prefix none)
if grep -E '^(mio|rustls|libz-ng-sys) ' <<<"$tree"; then
    echo "these belong to the program, and the library has them without its feature" >&2
    exit 1
fi
cargo clippy --locked --no-default-features --lib -- -D warnings
cargo test --locked --no-default-features --lib
cargo test --locked --no-default-features --doc
step "what was built meanwhile"
wait "$building" || {
    cat target/later.log >&2
    exit 1
}
building=
step "how many instructions an event takes"
contrib/instructions.sh
step "fuzzing, each target for a short time"
FUZZ_SECONDS=2 FUZZ_SANITIZER=none contrib/fuzz.sh
step "the static binary"
contrib/static-check.sh
step "all is well"
