# shellcheck shell=bash
# The private PostgreSQL: durable (fsync on), reachable over loopback only, with a password.
#
# PostgreSQL refuses to run as root. For root it runs as the user `postgres`; when that user cannot reach the checkout,
# the data is put under /var/tmp and .dev/postgres is a link to it.

POSTGRES_LINK=$STATE/postgres
POSTGRES_SETTINGS=(
    listen_addresses=127.0.0.1
    unix_socket_directories=
    max_connections=200
    shared_buffers=256MB
    max_wal_size=2GB
    log_checkpoints=off
)

start_postgres() {
    if is_running postgres; then return 0; fi
    [[ -f $POSTGRES_DATA/PG_VERSION ]] || with_progress "making a PostgreSQL cluster" make_cluster
    with_progress "waiting for the last PostgreSQL to end" await_end_of_orphans
    # Nobody is left there, whatever else has that pid by now.
    rm -f "$POSTGRES_DATA/postmaster.pid"
    claim_port POSTGRES_PORT

    local setting options=(-D "$POSTGRES_DATA" -p "${PORTS[POSTGRES_PORT]}")
    for setting in "${POSTGRES_SETTINGS[@]}"; do options+=(-c "$setting"); done
    start_process postgres "${AS_POSTGRES[@]}" "$(postgres_programs)/postgres" "${options[@]}"
    with_progress "starting PostgreSQL" await postgres 60 is_postgres_ready
    create_database
}

# After the server itself was killed its helpers live on for a moment, and a new one may not start beside them.
await_end_of_orphans() {
    local deadline=$((SECONDS + 20))
    while is_postgres_data_in_use; do
        ((SECONDS <= deadline)) || die 1 "another PostgreSQL, not recorded in $STATE/run, runs on $POSTGRES_DATA"
        sleep 0.2
    done
}

is_postgres_data_in_use() {
    local directory
    for directory in /proc/[0-9]*/cwd; do
        [[ $(readlink "$directory" 2>/dev/null) != "$POSTGRES_DATA" ]] || return 0
    done
    return 1
}

# The newest programs, or those that made the cluster when there is one.
postgres_programs() {
    local made_by=any version directory newest=
    if [[ -f $POSTGRES_DATA/PG_VERSION ]]; then made_by=$(<"$POSTGRES_DATA/PG_VERSION"); fi
    # shellcheck disable=SC2153 # set in packages.sh
    while read -r version directory; do
        if [[ $made_by == any || $made_by == "$version" ]] && ((version >= POSTGRES_MIN)); then newest=$directory; fi
    done < <(installed_postgres | sort -n)
    echo "$newest"
}

installed_postgres() { # lines: VERSION DIRECTORY
    local directory version
    for directory in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin "$(dirname "$(readlink -f "$(command -v pg_ctl)")")"; do
        if [[ -x $directory/postgres && -x $directory/initdb && -x $directory/psql ]]; then
            version=$("$directory/postgres" --version)
            [[ $version =~ ([0-9]+) ]] && echo "${BASH_REMATCH[1]} $directory"
        fi
    done
}

make_cluster() {
    make_postgres_directory
    local password_file=$POSTGRES_DIR/password
    rm -rf "${POSTGRES_DATA:?}.new"
    (umask 077 && echo "$POSTGRES_PASSWORD" >"$password_file")
    own_by_postgres "$password_file"
    (
        cd "$POSTGRES_DIR"
        "${AS_POSTGRES[@]}" "$(postgres_programs)/initdb" -D "$POSTGRES_DATA.new" --username=countersign \
            --pwfile="$password_file" --auth=scram-sha-256 --encoding=UTF8 --locale=C
    ) >>"$(log_file postgres)" 2>&1 9>&- || die 1 "initdb failed; $(last_lines postgres)"
    rm -f "$password_file"
    # Last, so that an interrupted initdb is never taken for a cluster.
    mv "$POSTGRES_DATA.new" "$POSTGRES_DATA"
}

make_postgres_directory() {
    mkdir -p "$POSTGRES_DIR"
    own_by_postgres "$POSTGRES_DIR"
    chmod 700 "$POSTGRES_DIR/"
    if ! "${AS_POSTGRES[@]}" test -w "$POSTGRES_DIR" 2>/dev/null; then
        local elsewhere
        elsewhere=$(mktemp -d /var/tmp/countersign-XXXXXX)
        own_by_postgres "$elsewhere"
        rmdir "$POSTGRES_LINK"
        ln -s "$elsewhere" "$POSTGRES_LINK"
        locate_postgres
    fi
}

# With links resolved: the server's user may not be able to follow them.
locate_postgres() {
    POSTGRES_DIR=$(readlink -m "$POSTGRES_LINK")
    POSTGRES_DATA=$POSTGRES_DIR/data
}

choose_postgres_user() {
    AS_POSTGRES=()
    if [[ $EUID -eq 0 ]]; then
        AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --init-groups)
    fi
}

own_by_postgres() { # PATH
    [[ $EUID -ne 0 ]] || chown postgres: "$1"
}

is_postgres_ready() {
    "$(postgres_programs)/pg_isready" -q -h 127.0.0.1 -p "${PORTS[POSTGRES_PORT]}" 2>/dev/null
}

create_database() {
    [[ $(psql_as_administrator -d postgres -tAc "SELECT 1 FROM pg_database WHERE datname = 'countersign'") == 1 ]] ||
        psql_as_administrator -d postgres -c 'CREATE DATABASE countersign'
}

psql_as_administrator() {
    PGPASSWORD=$POSTGRES_PASSWORD "$(postgres_programs)/psql" --no-psqlrc --quiet -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "${PORTS[POSTGRES_PORT]}" -U countersign "$@"
}

# psql on the database of a URL, which reaches it by libpq's variables: every user of the machine can read a command line.
psql_on() ( # URL ARGUMENT..
    local rest=${1#*://} query='' parameter host hosts=() ports=()
    [[ $rest != *@* ]] || {
        PGUSER=$(percent_decoded "${rest%%[:@]*}")
        export PGUSER
        [[ ${rest%%@*} != *:* ]] || PGPASSWORD=$(url_password "$1")
        export PGPASSWORD
        rest=${rest#*@}
    }
    [[ $rest != *\?* ]] || query=${rest#*\?}
    rest=${rest%%\?*}
    [[ $rest != */* ]] || PGDATABASE=$(percent_decoded "${rest#*/}")
    for host in $(tr ',' ' ' <<<"${rest%%/*}"); do
        # Without a port, or the colons are those of an IPv6 address.
        [[ $host =~ :[0-9]+$ && $host != *: ]] && ports+=("${host##*:}") && host=${host%:*} || ports+=(5432)
        host=${host#[}
        hosts+=("$(percent_decoded "${host%]}")")
    done
    PGHOST=$(IFS=,; echo "${hosts[*]}") PGPORT=$(IFS=,; echo "${ports[*]}")
    for parameter in ${query//&/ }; do
        case $parameter in
            sslmode=*) PGSSLMODE=$(percent_decoded "${parameter#*=}") ;;
            sslrootcert=*) PGSSLROOTCERT=$(percent_decoded "${parameter#*=}") ;;
            host=*) PGHOST=$(percent_decoded "${parameter#*=}") ;;
            *) ;;
        esac
    done
    for parameter in PGDATABASE PGHOST PGPORT PGSSLMODE PGSSLROOTCERT; do
        [[ -z ${!parameter:-} ]] || export "${parameter?}"
    done
    exec psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 "${@:2}"
)

url_user() { # URL
    local rest=${1#*://}
    [[ $rest != *@* ]] || percent_decoded "${rest%%[:@]*}"
}

url_password() { # URL
    local user=${1#*://}
    user=${user%%@*}
    [[ $1 != *@* || $user != *:* ]] || percent_decoded "${user#*:}"
}

percent_decoded() { # TEXT
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}"
}
