# shellcheck shell=bash
# The benchmark's side of ./dev: servers and a fresh build. What is measured is in testing/bench/src/parts.

# The guard: what `./dev bench --quick --json docs/performance/quick.json` wrote when it was last recorded.
BENCH_RECORDED=$ROOT/docs/performance/quick.json

bench() {
    local brokers=1 status=0 arguments=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --brokers) [[ $# -ge 2 ]] || die 64 "--brokers needs a number"; brokers=$2; shift 2 ;;
            --brokers=*) set -- --brokers "${1#*=}" "${@:2}" ;;
            *) arguments+=("$1"); shift ;;
        esac
    done
    [[ $brokers == [13] ]] || die 64 "--brokers is 1 or 3, not '$brokers'"
    prepare_to_run
    case " ${arguments[*]} " in
        *' --help '* | *' -h '*) exec "$BIN/bench" --help ;;
        *' --compare'[\ =]* | *"$(basename "$BENCH_RECORDED") "*) ;;
        *' --quick '*) ((brokers > 1)) || [[ ! -f $BENCH_RECORDED ]] || arguments+=(--compare "$BENCH_RECORDED") ;;
    esac
    export BROKERS=$brokers
    ((brokers == 1)) || sweep_away_the_cluster
    start_servers
    export_environment
    timed "bench" "$BIN/bench" "${arguments[@]}" || status=$?
    exit "$status"
}
