# shellcheck shell=bash
# The private RabbitMQ: one node, or BROKERS of them in a cluster. Own ports, own cookie, own epmd, management on loopback.
#
# Debian's /usr/sbin/rabbitmq-server insists on the system's user and directories, so the scripts underneath it are
# called, as root or as an ordinary user alike. A node's environment is kept in its node.env and is only ever loaded in
# a subshell: it moves HOME.

# The node that the functions below are about: the name of its process, of its folder, and what its ports' names begin
# with. The first one is `rabbitmq`, the others `rabbitmq-2` and so on.
NODE=rabbitmq
BROKERS=${BROKERS:-1}

rabbitmq_nodes() {
    local n
    echo rabbitmq
    for ((n = 2; n <= BROKERS; n++)); do echo "rabbitmq-$n"; done
}

start_rabbitmq() {
    local NODE
    for NODE in $(rabbitmq_nodes); do launch_node; done
    for NODE in $(rabbitmq_nodes); do await_node; done
    for NODE in $(rabbitmq_nodes | tail -n +2); do with_progress "joining $NODE to the cluster" join_cluster; done
    NODE=rabbitmq
    with_progress "importing deploy/rabbitmq/definitions.json" import_definitions
    with_progress "making the users ingest and worker" import_users
}

# Nodes of a cluster wait for each other when they start, so none is waited for before all are launched.
launch_node() {
    if is_running "$NODE"; then return 0; fi
    local name
    for name in $(rabbitmq_ports); do claim_port "$name"; done
    is_running epmd || claim_port EPMD_PORT
    write_rabbitmq_files
    start_epmd
    start_process "$NODE" "$STATE/$NODE/bin/rabbitmq-server" -noinput
}

await_node() {
    with_progress "starting $NODE" await "$NODE" 120 is_rabbitmq_up
}

# Once: a node remembers its cluster.
join_cluster() {
    local joined=$STATE/$NODE/joined
    [[ ! -e $joined ]] || return 0
    rabbitmqctl await_startup --timeout 60
    rabbitmqctl stop_app
    rabbitmqctl join_cluster "$(erlang_name rabbitmq)"
    rabbitmqctl start_app
    : >"$joined"
}

rabbitmq_ports() { # the names of the node's ports
    local port
    for port in PORT MANAGEMENT_PORT DIST_PORT; do port_name "$NODE" "$port"; done
}

# Unique to the checkout.
erlang_name() { # NODE
    echo "countersign-$(cksum <<<"$STATE" | cut -d' ' -f1)${1#rabbitmq}@localhost"
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
    local directory=$STATE/$NODE
    # All nodes have the first one's: it makes them one cluster.
    local cookie=$STATE/rabbitmq/home/.erlang.cookie
    mkdir -p "$directory/bin" "$STATE/rabbitmq/home"
    chmod 700 "$directory"
    if [[ ! -s $cookie ]]; then
        (umask 077 && random_text 40 >"$cookie")
        chmod 400 "$cookie"
    fi
    echo '[rabbitmq_management].' >"$directory/enabled_plugins"
    : >"$directory/rabbitmq-env.conf"
    echo '[].' >"$directory/advanced.config"
    rabbitmq_configuration >"$directory/rabbitmq.conf"
    rabbitmq_environment "$directory" >"$directory/node.env"
    write_rabbitmq_wrappers "$directory"
}

# What ships, and then what only a private node has: the last of two lines with one key counts.
rabbitmq_configuration() {
    cat "$ROOT/deploy/rabbitmq/rabbitmq.conf" - <<CONF
listeners.tcp.1 = 127.0.0.1:${PORTS[$(port_name "$NODE" PORT)]}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${PORTS[$(port_name "$NODE" MANAGEMENT_PORT)]}
default_user = countersign
default_pass = $RABBITMQ_PASSWORD
vm_memory_high_watermark.absolute = 2GB
raft.wal_max_size_bytes = 67108864
disk_free_limit.absolute = 500MB
CONF
    ((BROKERS == 1)) || echo 'cluster_partition_handling = pause_minority'
    # To see what happens when it strikes, nobody waits 48 hours.
    [[ -z ${CONSUMER_TIMEOUT_MS:-} ]] || echo "consumer_timeout = $CONSUMER_TIMEOUT_MS"
}

rabbitmq_environment() { # DIRECTORY
    local erlang='-kernel inet_dist_use_interface {127,0,0,1}'
    # Several nodes on one small machine: a thread each will do.
    ((BROKERS == 1)) || erlang+=' +S 1:1'
    export_line HOME "$STATE/rabbitmq/home"
    export_line RABBITMQ_NODENAME "$(erlang_name "$NODE")"
    export_line RABBITMQ_NODE_IP_ADDRESS 127.0.0.1
    export_line RABBITMQ_NODE_PORT "${PORTS[$(port_name "$NODE" PORT)]}"
    export_line RABBITMQ_DIST_PORT "${PORTS[$(port_name "$NODE" DIST_PORT)]}"
    export_line ERL_EPMD_PORT "${PORTS[EPMD_PORT]}"
    export_line ERL_EPMD_ADDRESS 127.0.0.1
    export_line RABBITMQ_MNESIA_BASE "$1/data"
    export_line RABBITMQ_LOG_BASE "$1/log"
    export_line RABBITMQ_LOGS "$1/log/node.log"
    export_line RABBITMQ_PID_FILE "$1/node.pid"
    export_line RABBITMQ_ENABLED_PLUGINS_FILE "$1/enabled_plugins"
    export_line RABBITMQ_CONFIG_FILE "$1/rabbitmq.conf"
    export_line RABBITMQ_ADVANCED_CONFIG_FILE "$1/advanced.config"
    # Empty: keeps /etc/rabbitmq out.
    export_line RABBITMQ_CONF_ENV_FILE "$1/rabbitmq-env.conf"
    export_line RABBITMQ_GENERATED_CONFIG_DIR "$1/config"
    export_line RABBITMQ_FEATURE_FLAGS_FILE "$1/feature_flags"
    # Makes the script become the node instead of watching over it, so that there is one process and its pid is known;
    # input stays off by -noinput.
    export_line RABBITMQ_ALLOW_INPUT 1
    # Idle schedulers sleep at once instead of spinning: the machine is shared with everything else that ./dev runs.
    export_line RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS "$erlang +sbwt none +sbwtdcpu none +sbwtdio none"
    export_line RABBITMQ_CTL_ERL_ARGS "$erlang"
}

export_line() { # NAME VALUE
    printf 'export %s=%s\n' "$1" "$(quoted "$2")"
}

write_rabbitmq_wrappers() { # DIRECTORY
    local program
    for program in rabbitmq-server rabbitmqctl rabbitmq-queues rabbitmq-diagnostics; do
        cat >"$1/bin/$program" <<SCRIPT
#!/bin/sh
. $(quoted "$1/node.env")
exec $(quoted "$(rabbitmq_programs)/$program") "\$@"
SCRIPT
        chmod 700 "$1/bin/$program"
    done
}

is_rabbitmq_up() {
    is_port_open "${PORTS[$(port_name "$NODE" PORT)]}" && is_port_open "${PORTS[$(port_name "$NODE" MANAGEMENT_PORT)]}"
}

import_definitions() {
    rabbitmqctl await_startup --timeout 60
    rabbitmqctl import_definitions "$ROOT/deploy/rabbitmq/definitions.json"
}

# With passwords of this checkout: the definitions have no users.
import_users() {
    local users=$STATE/rabbitmq/users.json
    if [[ ! -s $users || $SECRETS -nt $users ]]; then
        (umask 077 && "$ROOT/deploy/rabbitmq/make-users" \
            <(echo "$RABBITMQ_INGEST_PASSWORD") <(echo "$RABBITMQ_WORKER_PASSWORD") >"$users.new")
        mv "$users.new" "$users"
    fi
    rabbitmqctl import_definitions "$users"
}

rabbitmqctl() {
    "$STATE/$NODE/bin/rabbitmqctl" --quiet "$@" >>"$(log_file rabbitmq)" 2>&1 </dev/null ||
        die 1 "rabbitmqctl $1 failed; $(last_lines rabbitmq)"
}
