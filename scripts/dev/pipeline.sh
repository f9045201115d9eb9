# shellcheck shell=bash
# shellcheck disable=SC2034 # names set here are read in other files
# The pipeline on top of the servers: settings, secrets, URLs, ingest and the workers.

SECRETS=$STATE/secrets.env
# What the last `up` was told, so that `env`, `_crash` and the next `up` mean the same pipeline.
SETTINGS=$STATE/settings.env
SECRET_NAMES=(
    POSTGRES_PASSWORD WORKER_DATABASE_PASSWORD RABBITMQ_PASSWORD RABBITMQ_INGEST_PASSWORD RABBITMQ_WORKER_PASSWORD
)

# What `./dev env` prints, and what the demo and the tests are given.
ENVIRONMENT=(
    DATABASE_URL AMQP_URLS INGEST_AMQP_URLS WORKER_AMQP_URLS WORKER_DATABASE_URL
    RABBITMQ_MANAGEMENT_URL RABBITMQCTL PSQL INGEST_URL INGEST_ADMIN_URL WORKER_ADMIN_URLS MERCHANTS_FILE
)

start_servers() {
    lock_state
    pick_ports
    if uses_own_servers; then
        start_postgres
        start_rabbitmq
    fi
    define_urls
    uses_own_servers || require_worker_role
    unlock_state
}

stop_servers() {
    local name
    for name in $(recorded rabbitmq) epmd postgres; do stop_process "$name"; done
}

start_pipeline() {
    local n
    require_merchants_file
    start_servers
    lock_state
    with_progress "migrating the database" migrate
    stop_what_is_outdated
    save_settings
    start_program ingest
    for ((n = 1; n <= WORKERS; n++)); do start_program "worker-$n"; done
    # A port may have been moved on the way.
    define_urls
    unlock_state
}

stop_pipeline() {
    local name
    for name in $(recorded worker) ingest; do stop_process "$name"; done
}

migrate() {
    local -x COUNTERSIGN_WORKER_PASSWORD
    COUNTERSIGN_WORKER_PASSWORD=$(url_password "$WORKER_DATABASE_URL")
    {
        DATABASE_URL=$DATABASE_URL "$BIN/worker" migrate &&
            administrators_psql -f "$ROOT/deploy/postgres/roles.sql"
    } >"$(log_file migrate)" 2>&1 </dev/null || die 1 "the database could not be migrated; $(last_lines migrate)"
}

administrators_psql() { # ARGUMENT..
    if uses_own_servers; then
        psql_as_administrator -d countersign "$@"
    else
        psql_on "$DATABASE_URL" "$@"
    fi
}

# On a server of the developer's: a role belongs to the whole server, so another installation may have it already. roles.sql
# sets its password, so it is run only with the one that it has.
require_worker_role() {
    local role
    [[ $(url_user "$WORKER_DATABASE_URL") == countersign_worker ]] ||
        die 64 "WORKER_DATABASE_URL must name the role countersign_worker: its rights come from deploy/postgres/roles.sql"
    role=$(administrators_psql -d postgres -tAc "SELECT 1 FROM pg_roles WHERE rolname = 'countersign_worker'") ||
        die 69 "DATABASE_URL: the database cannot be reached"
    [[ -z $role ]] || psql_on "$WORKER_DATABASE_URL" -d postgres -tAc 'SELECT' >/dev/null 2>&1 ||
        die 64 "the server of DATABASE_URL has the role countersign_worker already, with a password that is not known here: set WORKER_DATABASE_URL, with that password in it (./dev changes no password of a role that it did not make)"
}

# Starts ingest or worker-N unless it runs, and waits until it can do its job.
start_program() { # NAME
    local name=$1 admin_port
    if is_running "$name"; then return 0; fi
    admin_port=$(port_name "$name" ADMIN_PORT)
    claim_port "$admin_port"
    local admin_address=127.0.0.1:${PORTS[$admin_port]}
    local -x LOG_FORMAT=json MERCHANTS_FILE=$MERCHANTS_FILE
    if [[ $name == ingest ]]; then
        [[ -n $INGEST_ADDR ]] || claim_port INGEST_PORT
        local -x AMQP_URLS=$INGEST_AMQP_URLS INGEST_ADMIN_ADDR=$admin_address
        local -x INGEST_ADDR=${INGEST_ADDR:-127.0.0.1:${PORTS[INGEST_PORT]}}
        start_process ingest "$BIN/ingest"
    else
        local -x AMQP_URLS=$WORKER_AMQP_URLS DATABASE_URL=$WORKER_DATABASE_URL WORKER_ADMIN_ADDR=$admin_address
        start_process "$name" "$BIN/worker" run
    fi
    with_progress "starting $name" await "$name" 30 is_http_ok "${PORTS[$admin_port]}" /readyz
}

# A running program is ended when, started now, it would be another: another build, server, address or merchants file.
stop_what_is_outdated() {
    local name
    if [[ $PORTS_MOVED == yes || $SETTINGS_CHANGED == yes ]]; then
        stop_pipeline
    fi
    for name in ingest $(recorded worker); do
        if is_outdated "$name"; then stop_process "$name"; fi
    done
}

is_outdated() { # NAME
    local pid
    pid=$(running_pid "$1") || return 1
    [[ $1 == worker-* ]] && ((${1#worker-} > WORKERS)) && return 0
    [[ $(readlink "/proc/$pid/exe") == *' (deleted)' ]]
}

# The environment wins over what the last `up` was told, which wins over the defaults.
load_settings() {
    local asked_merchants_file=${MERCHANTS_FILE:-} asked_workers=${WORKERS:-} asked_address=${INGEST_ADDR:-}
    # What the developer's shell exports is not passed on by accident: each program is given what it needs.
    export -n DATABASE_URL AMQP_URLS MERCHANTS_FILE WORKERS INGEST_ADDR

    MERCHANTS_FILE='' WORKERS='' INGEST_ADDR='' SETTINGS_CHANGED=no
    # shellcheck source=/dev/null
    if [[ -f $SETTINGS ]]; then source "$SETTINGS"; fi
    local last_merchants_file=$MERCHANTS_FILE last_address=$INGEST_ADDR

    MERCHANTS_FILE=$(absolute_path "${asked_merchants_file:-${MERCHANTS_FILE:-$STATE/merchants.toml}}")
    WORKERS=${asked_workers:-${WORKERS:-2}}
    INGEST_ADDR=${asked_address:-$INGEST_ADDR}
    if [[ -f $SETTINGS && "$MERCHANTS_FILE $INGEST_ADDR" != "$last_merchants_file $last_address" ]]; then
        SETTINGS_CHANGED=yes
    fi
    [[ $WORKERS =~ ^[0-9]+$ ]] || die 64 "WORKERS must be a number, not '$WORKERS'"
    [[ -z $INGEST_ADDR || $INGEST_ADDR =~ :[0-9]+$ ]] || die 64 "INGEST_ADDR must be host:port, not '$INGEST_ADDR'"
}

save_settings() {
    local name
    for name in MERCHANTS_FILE WORKERS INGEST_ADDR; do echo "$name=$(quoted "${!name}")"; done >"$SETTINGS"
}

absolute_path() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "$PWD/$1" ;;
    esac
}

load_secrets() {
    # One at a time: of two that start at once, both must have the same.
    (
        umask 077
        exec 8>"$SECRETS.lock"
        flock 8
        make_missing_secrets
    )
    # shellcheck source=/dev/null
    source "$SECRETS"
}

make_missing_secrets() {
    local name
    for name in "${SECRET_NAMES[@]}"; do
        grep -qs "^$name=" "$SECRETS" || echo "$name=$(random_text 24)" >>"$SECRETS"
    done
}

# Private servers unless the developer named both of their own. URLs that `./dev env` printed are not "their own".
choose_servers() {
    OWN_SERVERS=yes
    if [[ -n ${DATABASE_URL:-} && -n ${AMQP_URLS:-} ]]; then
        [[ $DATABASE_URL == *":$POSTGRES_PASSWORD@"* ]] || OWN_SERVERS=no
    elif [[ -n ${DATABASE_URL:-}${AMQP_URLS:-} ]]; then
        say "only one of DATABASE_URL and AMQP_URLS is set: using private servers"
    fi
}

uses_own_servers() {
    [[ $OWN_SERVERS == yes ]]
}

pick_ports() {
    local NODE n name names=(INGEST_PORT INGEST_ADMIN_PORT)
    if uses_own_servers; then
        names+=(POSTGRES_PORT EPMD_PORT)
        for NODE in $(rabbitmq_nodes); do names+=($(rabbitmq_ports)); done
    fi
    for ((n = 1; n <= WORKERS; n++)); do names+=("WORKER_${n}_ADMIN_PORT"); done
    load_ports
    for name in "${names[@]}"; do
        [[ -n ${PORTS[$name]:-} ]] || claim_port "$name"
    done
}

# Needs the ports.
define_urls() {
    local n
    if uses_own_servers; then
        define_private_server_urls
    else
        # The definitions and the users are the developer's to import: only he knows the users' passwords.
        if [[ -z ${INGEST_AMQP_URLS:-} || -z ${WORKER_AMQP_URLS:-} ]]; then
            say "INGEST_AMQP_URLS or WORKER_AMQP_URLS is not set: using the user of AMQP_URLS, who may do more than the programs need"
        fi
        INGEST_AMQP_URLS=${INGEST_AMQP_URLS:-$AMQP_URLS}
        WORKER_AMQP_URLS=${WORKER_AMQP_URLS:-$AMQP_URLS}
        WORKER_DATABASE_URL=${WORKER_DATABASE_URL:-$(with_user countersign_worker "$WORKER_DATABASE_PASSWORD" "$DATABASE_URL")}
    fi
    INGEST_URL=http://127.0.0.1:${PORTS[INGEST_PORT]}
    [[ -z $INGEST_ADDR ]] || INGEST_URL=http://${INGEST_ADDR/#0.0.0.0:/127.0.0.1:}
    INGEST_ADMIN_URL=http://127.0.0.1:${PORTS[INGEST_ADMIN_PORT]}
    WORKER_ADMIN_URLS=
    for ((n = 1; n <= WORKERS; n++)); do
        WORKER_ADMIN_URLS+=${WORKER_ADMIN_URLS:+,}http://127.0.0.1:${PORTS[WORKER_${n}_ADMIN_PORT]}
    done
}

define_private_server_urls() {
    local NODE name postgres=127.0.0.1:${PORTS[POSTGRES_PORT]}/countersign rabbitmq
    DATABASE_URL=postgres://countersign:$POSTGRES_PASSWORD@$postgres
    WORKER_DATABASE_URL=postgres://countersign_worker:$WORKER_DATABASE_PASSWORD@$postgres
    AMQP_URLS='' INGEST_AMQP_URLS='' WORKER_AMQP_URLS='' RABBITMQ_MANAGEMENT_URL=''
    for NODE in $(rabbitmq_nodes); do
        rabbitmq=127.0.0.1:${PORTS[$(port_name "$NODE" PORT)]}/%2f
        AMQP_URLS+=,amqp://countersign:$RABBITMQ_PASSWORD@$rabbitmq
        INGEST_AMQP_URLS+=,amqp://ingest:$RABBITMQ_INGEST_PASSWORD@$rabbitmq
        WORKER_AMQP_URLS+=,amqp://worker:$RABBITMQ_WORKER_PASSWORD@$rabbitmq
        RABBITMQ_MANAGEMENT_URL+=,http://countersign:$RABBITMQ_PASSWORD@127.0.0.1:${PORTS[$(port_name "$NODE" MANAGEMENT_PORT)]}
    done
    for name in AMQP_URLS INGEST_AMQP_URLS WORKER_AMQP_URLS RABBITMQ_MANAGEMENT_URL; do
        printf -v "$name" %s "${!name#,}"
    done
    RABBITMQCTL=$STATE/rabbitmq/bin/rabbitmqctl
    PSQL=$(postgres_programs)/psql
}

with_user() { # USER PASSWORD URL,URL..
    sed -E "s#(^|,)([a-z]+://)([^@/,]*@)?#\1\2$1:$2@#g" <<<"$3"
}

print_environment() {
    local name
    [[ -n ${PORTS[INGEST_ADMIN_PORT]:-} && -n ${PORTS[WORKER_1_ADMIN_PORT]:-} ]] ||
        die 69 "nothing has been started yet, so there are no ports: run ./dev up first"
    define_urls
    for name in "${ENVIRONMENT[@]}"; do
        [[ -z ${!name:-} ]] || export_line "$name" "${!name}"
    done
}

export_environment() {
    export "${ENVIRONMENT[@]}"
}

print_summary() {
    local url n=0
    cat <<TEXT

The pipeline is running:
  callbacks       $INGEST_URL/wechatpay/v2/payment, /v2/refund, /v3/MCH_ID
  ingest, admin   $INGEST_ADMIN_URL/readyz and /metrics
TEXT
    for url in ${WORKER_ADMIN_URLS//,/ }; do echo "  worker-$((n += 1)), admin $url/readyz and /metrics"; done
    if uses_own_servers; then
        echo "  PostgreSQL      127.0.0.1:${PORTS[POSTGRES_PORT]}, database countersign"
        echo "  RabbitMQ        127.0.0.1:${PORTS[RABBITMQ_PORT]}, management http://127.0.0.1:${PORTS[RABBITMQ_MANAGEMENT_PORT]}"
    fi
    cat <<TEXT
  merchants       $MERCHANTS_FILE
  logs            $STATE/log
URLs and passwords for a shell: eval "\$(./dev env)". To stop: ./dev down.
TEXT
}

require_merchants_file() {
    if [[ $MERCHANTS_FILE == "$STATE/merchants.toml" ]] && ! grep -qs v3_platform_keys "$MERCHANTS_FILE"; then
        rm -rf "${MERCHANTS_FILE:?}" "${STATE:?}/platform-keys"
        with_progress "making two merchants with random keys" "$BIN/simulator" new-merchants "$MERCHANTS_FILE"
        # Programs that run know the old keys.
        SETTINGS_CHANGED=yes
    fi
    [[ -r $MERCHANTS_FILE ]] || die 64 "MERCHANTS_FILE: $MERCHANTS_FILE cannot be read"
}
