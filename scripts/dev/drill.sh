# shellcheck shell=bash
# The drill's side of ./dev: fresh servers of its own under .dev/drill, and the hands that break and mend them.

# Room for a month of the ledger of a long drill; memory is used only as the ledger grows.
SMALL_DISK_SIZE=512m

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
    export SMALL_DISK=$POSTGRES_DIR/small-disk
    with_progress "migrating the database" migrate
    export_environment
    timed "drill" "$BIN/drill" "${arguments[@]}" || status=$?
    # PostgreSQL first: it has files there.
    stop_what_was_started
    keep_what_was_started
    take_the_small_disk_away
    exit "$status"
}

# Every drill begins with empty servers: what an aborted one left would be found missing or too much by the audit. A benchmark
# on three nodes does as well.
sweep_away_the_cluster() {
    [[ $STATE == "$ROOT/.dev/drill" ]] || die 70 "$STATE is not a cluster's"
    lock_state
    stop_servers
    unlock_state
    take_the_small_disk_away
    rm -rf "${POSTGRES_DATA:?}" "$STATE"/rabbitmq* "$STATE"/log
    mkdir -p "$STATE/log"
}

# A file system of PostgreSQL's own, in memory, whose room can be taken and given back. Only root can mount one, and not in
# every container: `make` fails where it cannot be done.
small_disk_of_the_drill() { # make|fill|empty
    local place=$POSTGRES_DIR/small-disk used
    case ${1:-} in
        make)
            [[ $EUID -eq 0 ]] || die 69 "only root can mount a small disk"
            mkdir -p "$place"
            mount -t tmpfs -o "size=$SMALL_DISK_SIZE,mode=700,uid=postgres,gid=postgres" drill "$place" ||
                die 69 "no small disk can be mounted here"
            ;;
        # Whatever is not used is taken away, and what is there stays. The ledger may grow between the look and the change,
        # which is refused then.
        fill)
            for _ in {1..50}; do
                used=$(df --block-size=1 --output=used "$place" | tail -n 1)
                ! mount -o "remount,size=${used// /}" "$place" 2>/dev/null || return 0
            done
            die 1 "the small disk could not be made full"
            ;;
        empty) mount -o "remount,size=$SMALL_DISK_SIZE" "$place" ;;
        *) die 64 "usage: ./dev _disk make|fill|empty" ;;
    esac
}

take_the_small_disk_away() {
    local place=$POSTGRES_DIR/small-disk
    ! mountpoint --quiet "$place" || umount "$place"
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
