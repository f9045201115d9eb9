# shellcheck shell=bash
# The drill's side of ./dev: fresh servers of its own under .dev/drill, and the hands that break and mend them.

drill() {
    local brokers=3 only_shows=no arguments=() status=0
    while [[ $# -gt 0 ]]; do
        case $1 in
            --brokers) [[ $# -ge 2 ]] || die 64 "--brokers needs a number"; brokers=$2; shift 2 ;;
            --short) brokers=1; arguments+=(--short); shift ;;
            --help | --plan | --summarize) only_shows=yes; arguments+=("$1"); shift ;;
            *) arguments+=("$1"); shift ;;
        esac
    done
    [[ $brokers == [13] ]] || die 64 "--brokers is 1 or 3, not '$brokers'"
    prepare_to_run
    if [[ $only_shows == yes ]]; then exec "$BIN/drill" "${arguments[@]}"; fi
    sweep_away_the_cluster
    export BROKERS=$brokers DEV=$ROOT/dev DRILL_DIR=$STATE
    start_servers
    with_progress "migrating the database" migrate
    export_environment
    timed "drill" "$BIN/drill" "${arguments[@]}" || status=$?
    exit "$status"
}

# Every drill begins with empty servers: what an aborted one left would be found missing or too much by the audit. A benchmark
# on three nodes does as well.
sweep_away_the_cluster() {
    [[ $STATE == "$ROOT/.dev/drill" ]] || die 70 "$STATE is not a cluster's"
    lock_state
    stop_servers
    unlock_state
    rm -rf "${POSTGRES_DATA:?}" "$STATE"/rabbitmq* "$STATE"/log
    mkdir -p "$STATE/log"
}

# What the drill does to servers, by the names of their processes. Nodes of a cluster that start together are launched
# together, for they may wait for each other.
servers_of_the_drill() { # start|kill|freeze|thaw NAME..
    local NODE verb=${1:-}
    local -a names=("${@:2}")
    for NODE in "${names[@]}"; do
        [[ $NODE =~ ^(postgres|rabbitmq(-[0-9]+)?)$ ]] || die 64 "there is no server '$NODE' here"
    done
    case $verb in
        start)
            lock_state
            for NODE in "${names[@]}"; do
                if [[ $NODE == postgres ]]; then start_postgres; else launch_node; fi
            done
            unlock_state
            for NODE in "${names[@]}"; do [[ $NODE == postgres ]] || await_node; done
            keep_what_was_started
            ;;
        kill) for NODE in "${names[@]}"; do kill_process "$NODE"; done ;;
        freeze) for NODE in "${names[@]}"; do freeze_process "$NODE"; done ;;
        thaw) for NODE in "${names[@]}"; do thaw_process "$NODE"; done ;;
        *) die 64 "usage: ./dev _server start|kill|freeze|thaw NAME.." ;;
    esac
}
