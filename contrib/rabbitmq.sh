#!/usr/bin/env bash
# A RabbitMQ of this project's own: node name, ports, cookie and files apart from any that runs on this machine.
#   contrib/rabbitmq.sh start     start it unless it runs, then print how to reach it (as `env` does)
#   contrib/rabbitmq.sh env       shell lines with its URIs, CA file and control command
#   contrib/rabbitmq.sh status    running or not
#   contrib/rabbitmq.sh stop      stop it and what it started
# RATEWAY_RABBITMQ_DIR (target/rabbitmq) holds everything; RATEWAY_RABBITMQ_PORT (5682) is the first port tried, the
# TLS listener is one below. Neither needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
dir=${RATEWAY_RABBITMQ_DIR:-$root/target/rabbitmq}
first_port=${RATEWAY_RABBITMQ_PORT:-5682}
lib=/usr/lib/rabbitmq/bin

say() { echo "rabbitmq: $*" >&2; }
# Whether something accepts connections on the port.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
pid_of() { cat "$dir/pid" 2>/dev/null || true; }
# The pid file may be older than the process that has the number now.
runs() {
    local pid
    pid=$(pid_of)
    [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -F "$dir"
}

show_env() {
    # shellcheck source=/dev/null
    . "$dir/ports"
    echo "export RATEWAY_TEST_AMQP_URI=amqp://guest:guest@127.0.0.1:$tcp_port"
    echo "export RATEWAY_TEST_AMQPS_URI=amqps://guest:guest@localhost:$tls_port"
    echo "export RATEWAY_TEST_AMQP_CA='$dir/certs/ca.pem'"
    echo "export RATEWAY_TEST_RABBITMQCTL='$dir/ctl'"
}

pick_ports() {
    local i port
    for i in 0 1 2 3 4 5 6 7 8 9; do
        port=$((first_port + 10 * i))
        if ! answers $port && ! answers $((port - 1)) && ! answers $((port + 10000)) && ! answers $((port + 20000)); then
            printf 'tcp_port=%s\ntls_port=%s\nepmd_port=%s\ndist_port=%s\n' \
                $port $((port - 1)) $((port + 10000)) $((port + 20000)) >"$dir/ports"
            return
        fi
    done
    say "no free ports from $first_port on; RATEWAY_RABBITMQ_PORT sets another start"
    exit 1
}

configure() {
    # shellcheck source=/dev/null
    . "$dir/ports"
    mkdir -p "$dir/erlang" "$dir/log" "$dir/mnesia"
    cat >"$dir/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$tcp_port
listeners.ssl.default = 127.0.0.1:$tls_port
ssl_options.cacertfile = $dir/certs/ca.pem
ssl_options.certfile = $dir/certs/server.pem
ssl_options.keyfile = $dir/certs/server.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
CONF
    echo '[].' >"$dir/enabled_plugins"
    : >"$dir/rabbitmq-env.conf"
    # Erlang's cookie is the whole secret of its distribution port.
    [ -s "$dir/erlang/.erlang.cookie" ] || {
        (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/erlang/.erlang.cookie")
    }
    chmod 400 "$dir/erlang/.erlang.cookie"
    cat >"$dir/environment" <<ENV
unset RABBITMQ_NODE_IP_ADDRESS RABBITMQ_NODE_PORT RABBITMQ_SERVER_START_ARGS RABBITMQ_CTL_ERL_ARGS
export HOME='$dir/erlang'
export RABBITMQ_CONF_ENV_FILE='$dir/rabbitmq-env.conf'
export RABBITMQ_CONFIG_FILE='$dir/rabbitmq'
export RABBITMQ_ADVANCED_CONFIG_FILE='$dir/advanced'
export RABBITMQ_ENABLED_PLUGINS_FILE='$dir/enabled_plugins'
export RABBITMQ_NODENAME=rateway-$tcp_port@localhost
export RABBITMQ_MNESIA_BASE='$dir/mnesia'
export RABBITMQ_LOG_BASE='$dir/log'
export RABBITMQ_LOGS='$dir/log/rabbitmq.log'
export RABBITMQ_PID_FILE='$dir/pid'
export RABBITMQ_DIST_PORT=$dist_port
export ERL_EPMD_PORT=$epmd_port
export ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
ENV
    cat >"$dir/ctl" <<CTL
#!/bin/sh
# rabbitmqctl for the node in this folder.
. '$dir/environment'
exec $lib/rabbitmqctl "\$@"
CTL
    chmod +x "$dir/ctl"
}

start() {
    if runs; then
        show_env
        return
    fi
    [ -x $lib/rabbitmq-server ] || {
        say "RabbitMQ is not installed: contrib/install.sh broker"
        exit 1
    }
    case $dir in *[\'\ ]*) say "$dir holds a space or quote, which RabbitMQ's scripts do not survive"; exit 1 ;; esac
    # Nobody else's messages and queues from a run before.
    rm -rf "$dir/mnesia" "$dir/pid" "$dir/ports"
    mkdir -p "$dir"
    "$root/contrib/certs.sh" "$dir/certs"
    pick_ports
    configure
    # shellcheck source=/dev/null
    . "$dir/ports"
    # A session of its own: Ctrl-C in the terminal is for whoever called, who then stops the broker in order.
    (. "$dir/environment" && exec setsid $lib/rabbitmq-server </dev/null >"$dir/log/out" 2>&1) &
    local server=$! waited=0
    until answers "$tcp_port" && answers "$tls_port"; do
        if ! kill -0 $server 2>/dev/null || [ $waited -ge 240 ]; then
            tail -n 40 "$dir/log/out" "$dir/log/rabbitmq.log" >&2 || true
            say "RabbitMQ did not start, see above and $dir/log"
            kill -TERM $server 2>/dev/null || true
            stop
            exit 1
        fi
        sleep 0.5
        waited=$((waited + 1))
    done
    say "started on ports $tcp_port and $tls_port (TLS)"
    show_env
}

stop() {
    local pid waited=0
    pid=$(pid_of)
    if runs; then
        kill -TERM "$pid" 2>/dev/null || true
        while kill -0 "$pid" 2>/dev/null; do
            [ $waited -lt 60 ] || { kill -KILL "$pid" 2>/dev/null || true; }
            [ $waited -lt 80 ] || break
            sleep 0.5
            waited=$((waited + 1))
        done
        say "stopped"
    fi
    rm -f "$dir/pid"
    if [ -s "$dir/ports" ] && command -v epmd >/dev/null; then
        # shellcheck source=/dev/null
        . "$dir/ports"
        # This project's own port mapper, on its own port; it goes only when no node is registered with it.
        epmd -port "$epmd_port" -kill >/dev/null 2>&1 || true
    fi
}

case ${1:-} in
start) start ;;
stop) stop ;;
env) runs && show_env ;;
status) if runs; then echo running; else echo stopped; exit 1; fi ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
