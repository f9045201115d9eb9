# shellcheck shell=bash
# Fuzzes the doors through which bytes come in, guided by coverage, with the stable compiler: libFuzzer needs the counters
# that LLVM adds to the code, and only the sanitizers beside them need nightly. `cargo fuzz run TARGET` works as well.

FUZZ_SECONDS=600
FUZZ_TARGETS=(xml req_info v3_headers v3_envelope amqp_envelope)
# More than BODY_BYTES_MAX, so that the limit is crossed; a second is already far too long for one input.
FUZZ_LIMITS=(-max_len=70000 -len_control=10 -timeout=5 -rss_limit_mb=512)
# As cargo-fuzz has it.
FUZZ_RUSTFLAGS=(
    --cfg fuzzing
    -Ccodegen-units=1
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)

fuzz() {
    local seconds=$FUZZ_SECONDS targets=() target host
    while [[ $# -gt 0 ]]; do
        case $1 in
            --seconds) [[ $# -ge 2 ]] || die 64 "--seconds needs a number"; seconds=$2; shift 2 ;;
            --seconds=*) seconds=${1#*=}; shift ;;
            *)
                [[ " ${FUZZ_TARGETS[*]} " == *" $1 "* ]] || die 64 "no target '$1': there are ${FUZZ_TARGETS[*]}"
                targets+=("$1"); shift ;;
        esac
    done
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || die 64 "--seconds needs a whole number above 0, not '$seconds'"
    [[ ${#targets[@]} -gt 0 ]] || targets=("${FUZZ_TARGETS[@]}")

    require_build_tools
    command -v c++ >/dev/null || die 69 "libFuzzer is C++: please install a C++ compiler (c++)"
    # The target is named, so that the flags reach no build script. Not locked: the workspace's dependencies move without
    # this crate being told.
    host=$(rustc -vV | sed -n 's/^host: //p')
    FUZZ_BIN=$ROOT/testing/fuzz/target/$host/release
    RUSTFLAGS=${FUZZ_RUSTFLAGS[*]} CARGO_TARGET_DIR=$ROOT/testing/fuzz/target \
        timed "build" in_fuzz cargo build --release --target "$host"
    for target in "${targets[@]}"; do fuzz_target "$target" "$seconds"; done
}

fuzz_target() { # TARGET SECONDS
    local target=$1 log
    log=$(log_file "fuzz-$target")
    mkdir -p "$ROOT/testing/fuzz/corpus/$target" "$ROOT/testing/fuzz/artifacts/$target"
    with_progress "fuzzing $target" run_fuzzer "$target" "$2" "$log" || failed_fuzzing "$target" "$log"
    say "$target: $(fuzz_summary "$log")"
    with_progress "keeping the least of its corpus" smaller_corpus "$target" "$log"
    say "$target: $(find "$ROOT/testing/fuzz/corpus/$target" -type f | wc -l) inputs kept in testing/fuzz/corpus/$target"
}

run_fuzzer() { # TARGET SECONDS LOG
    local options=()
    if [[ -f $ROOT/testing/fuzz/dictionaries/$1.dict ]]; then options=("-dict=dictionaries/$1.dict"); fi
    in_fuzz "$FUZZ_BIN/$1" "corpus/$1" "seeds/$1" "${FUZZ_LIMITS[@]}" "${options[@]}" \
        -artifact_prefix="artifacts/$1/" -max_total_time="$2" -print_final_stats=1 >"$3" 2>&1
}

failed_fuzzing() { # TARGET LOG
    say "$(grep -E 'panicked|ERROR|SUMMARY|^assertion|Test unit written' -A 3 "$2" | tail -n 20)"
    die 1 "$1 failed: the whole of it is in $2, and the input that did it in testing/fuzz/artifacts/$1 (give it to $FUZZ_BIN/$1)"
}

# The last line about coverage, and what it came to.
fuzz_summary() { # LOG
    local coverage
    coverage=$(grep -Eo 'cov: .*corp: [^ ]+' "$1" | tail -n 1)
    printf '%s, %s inputs run, %s a second, %s MiB at most, slowest %s s' "$coverage" \
        "$(fuzz_stat number_of_executed_units "$1")" "$(fuzz_stat average_exec_per_sec "$1")" \
        "$(fuzz_stat peak_rss_mb "$1")" "$(fuzz_stat slowest_unit_time_sec "$1")"
}

fuzz_stat() { # NAME LOG
    sed -n "s/^stat::$1: *//p" "$2" | tail -n 1
}

# Only the inputs without which coverage would be lost.
smaller_corpus() { # TARGET LOG
    local corpus=$ROOT/testing/fuzz/corpus/$1
    rm -rf "$corpus.smaller"
    mkdir "$corpus.smaller"
    in_fuzz "$FUZZ_BIN/$1" -set_cover_merge=1 "${FUZZ_LIMITS[@]}" "$corpus.smaller" "$corpus" "seeds/$1" >>"$2" 2>&1
    rm -rf "$corpus"
    mv "$corpus.smaller" "$corpus"
}

in_fuzz() {
    (cd "$ROOT/testing/fuzz" && "$@")
}
