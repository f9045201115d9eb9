# shellcheck shell=bash
# The private RabbitMQ node: own ports, own cookie, own epmd, management on loopback.
#
# Debian's /usr/sbin/rabbitmq-server insists on the system's user and directories, so the scripts underneath it are
# called, as root or as an ordinary user alike. Their environment is kept in .dev/rabbitmq/node.env and is only ever
# loaded in a subshell: it moves HOME.

RABBITMQ_DIR=$STATE/rabbitmq
RABBITMQ_CONTROL=$STATE/bin/rabbitmqctl

start_rabbitmq() {
    if ! is_running rabbitmq; then
        claim_rabbitmq_ports
        write_rabbitmq_files
        start_epmd
        start_process rabbitmq "$STATE/bin/rabbitmq-server" -noinput
        with_progress "starting RabbitMQ" await rabbitmq 120 is_rabbitmq_up
    fi
    with_progress "importing deploy/rabbitmq/definitions.json" import_definitions
}

claim_rabbitmq_ports() {
    local name
    for name in RABBITMQ_PORT RABBITMQ_MANAGEMENT_PORT RABBITMQ_DIST_PORT; do claim_port "$name"; done
    is_running epmd || claim_port EPMD_PORT
}

# Erlang would start one by itself, which nobody would ever stop.
start_epmd() {
    if is_running epmd; then return 0; fi
    start_process epmd epmd -port "${PORTS[EPMD_PORT]}" -address 127.0.0.1
    await epmd 10 is_port_open "${PORTS[EPMD_PORT]}"
}

rabbitmq_programs() {
    local directory newest=
    for directory in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin /opt/rabbitmq*/sbin; do
        if [[ -x $directory/rabbitmq-server ]]; then newest=$directory; fi
    done
    echo "$newest"
}

write_rabbitmq_files() {
    local cookie=$RABBITMQ_DIR/home/.erlang.cookie
    mkdir -p "$RABBITMQ_DIR/home" "$STATE/bin"
    chmod 700 "$RABBITMQ_DIR"
    if [[ ! -s $cookie ]]; then
        (umask 077 && random_text 40 >"$cookie")
        chmod 400 "$cookie"
    fi
    echo '[rabbitmq_management].' >"$RABBITMQ_DIR/enabled_plugins"
    : >"$RABBITMQ_DIR/rabbitmq-env.conf"
    echo '[].' >"$RABBITMQ_DIR/advanced.config"
    rabbitmq_configuration >"$RABBITMQ_DIR/rabbitmq.conf"
    rabbitmq_environment >"$RABBITMQ_DIR/node.env"
    write_rabbitmq_wrappers
}

rabbitmq_configuration() {
    cat <<CONF
listeners.tcp.1 = 127.0.0.1:${PORTS[RABBITMQ_PORT]}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${PORTS[RABBITMQ_MANAGEMENT_PORT]}
default_user = countersign
default_pass = $RABBITMQ_PASSWORD
vm_memory_high_watermark.absolute = 2GB
raft.wal_max_size_bytes = 67108864
disk_free_limit.absolute = 500MB
queue_leader_locator = balanced
CONF
}

rabbitmq_environment() {
    local loopback='-kernel inet_dist_use_interface {127,0,0,1}'
    export_line HOME "$RABBITMQ_DIR/home"
    # The node's name is unique to the checkout.
    export_line RABBITMQ_NODENAME "countersign-$(cksum <<<"$ROOT" | cut -d' ' -f1)@localhost"
    export_line RABBITMQ_NODE_IP_ADDRESS 127.0.0.1
    export_line RABBITMQ_NODE_PORT "${PORTS[RABBITMQ_PORT]}"
    export_line RABBITMQ_DIST_PORT "${PORTS[RABBITMQ_DIST_PORT]}"
    export_line ERL_EPMD_PORT "${PORTS[EPMD_PORT]}"
    export_line ERL_EPMD_ADDRESS 127.0.0.1
    export_line RABBITMQ_MNESIA_BASE "$RABBITMQ_DIR/data"
    export_line RABBITMQ_LOG_BASE "$RABBITMQ_DIR/log"
    export_line RABBITMQ_LOGS "$RABBITMQ_DIR/log/node.log"
    export_line RABBITMQ_PID_FILE "$RABBITMQ_DIR/node.pid"
    export_line RABBITMQ_ENABLED_PLUGINS_FILE "$RABBITMQ_DIR/enabled_plugins"
    export_line RABBITMQ_CONFIG_FILE "$RABBITMQ_DIR/rabbitmq.conf"
    export_line RABBITMQ_ADVANCED_CONFIG_FILE "$RABBITMQ_DIR/advanced.config"
    # Empty: keeps /etc/rabbitmq out.
    export_line RABBITMQ_CONF_ENV_FILE "$RABBITMQ_DIR/rabbitmq-env.conf"
    export_line RABBITMQ_GENERATED_CONFIG_DIR "$RABBITMQ_DIR/config"
    export_line RABBITMQ_FEATURE_FLAGS_FILE "$RABBITMQ_DIR/feature_flags"
    # Makes the script become the node instead of watching over it, so that there is one process and its pid is known;
    # input stays off by -noinput.
    export_line RABBITMQ_ALLOW_INPUT 1
    # Idle schedulers sleep at once instead of spinning: the machine is shared with everything else that ./dev runs.
    export_line RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS "$loopback +sbwt none +sbwtdcpu none +sbwtdio none"
    export_line RABBITMQ_CTL_ERL_ARGS "$loopback"
}

export_line() { # NAME VALUE
    printf 'export %s=%s\n' "$1" "$(quoted "$2")"
}

write_rabbitmq_wrappers() {
    local program
    for program in rabbitmq-server rabbitmqctl rabbitmq-queues rabbitmq-diagnostics; do
        cat >"$STATE/bin/$program" <<SCRIPT
#!/bin/sh
. $(quoted "$RABBITMQ_DIR/node.env")
exec $(quoted "$(rabbitmq_programs)/$program") "\$@"
SCRIPT
        chmod 700 "$STATE/bin/$program"
    done
}

is_rabbitmq_up() {
    is_port_open "${PORTS[RABBITMQ_PORT]}" && is_port_open "${PORTS[RABBITMQ_MANAGEMENT_PORT]}"
}

import_definitions() {
    rabbitmqctl await_startup --timeout 60
    rabbitmqctl import_definitions "$ROOT/deploy/rabbitmq/definitions.json"
}

rabbitmqctl() {
    "$RABBITMQ_CONTROL" --quiet "$@" >>"$(log_file rabbitmq)" 2>&1 </dev/null ||
        die 1 "rabbitmqctl $1 failed; $(last_lines rabbitmq)"
}
