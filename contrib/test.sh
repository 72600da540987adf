#!/usr/bin/env bash
# `make test`: everything that has to hold. Installs what is missing, starts a RabbitMQ of its own with a TLS listener
# (the tests restart it, so it is never somebody else's) and stops it at the end, also after a failure.
# With RATEWAY_TEST_AMQP_URI already set, the broker, CA and control command in these variables are used as they are.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { echo "== $*" >&2; }

step "what is needed"
contrib/install.sh build worker
if [ -z "${RATEWAY_TEST_AMQP_URI:-}" ]; then
    contrib/install.sh broker certs
    export RATEWAY_RABBITMQ_DIR=$PWD/target/rabbitmq-test RATEWAY_RABBITMQ_PORT=${RATEWAY_RABBITMQ_PORT:-5782}
    trap 'contrib/rabbitmq.sh stop || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    settings=$(contrib/rabbitmq.sh start)
    eval "$settings"
fi

step "formatting"
cargo fmt --check
step "clippy"
cargo clippy --locked --all-targets -- -D warnings
step "scripts"
for script in contrib/*.sh .ci/run; do bash -n "$script"; done
/usr/bin/python3 - examples/*.py <<'PY'
import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)
PY
step "tests"
cargo test --locked
step "all is well"
