# shellcheck shell=bash
# The benchmark's side of ./dev: servers and a fresh build. What is measured is in bench/src/parts.

# The guard: what `./dev bench --quick --json docs/performance/quick.json` wrote when it was last recorded.
BENCH_RECORDED=$ROOT/docs/performance/quick.json

bench() {
    local status=0 arguments=("$@")
    prepare_to_run
    case " $* " in
        *' --help '* | *' -h '*) exec "$BIN/bench" --help ;;
        *' --compare '* | *' --json '*) ;;
        *' --quick '*) [[ ! -f $BENCH_RECORDED ]] || arguments+=(--compare "$BENCH_RECORDED") ;;
    esac
    start_servers
    export_environment
    timed "bench" "$BIN/bench" "${arguments[@]}" || status=$?
    exit "$status"
}
