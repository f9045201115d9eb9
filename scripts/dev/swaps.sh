# shellcheck shell=bash
# Shows that the tests can fail: each patch of testing/e2e/swaps swaps one step of the protocol in a copy of the sources, and the
# test that it names passes here and fails there. (The model finds the same swaps: testing/model/tests/swaps.rs.)

SWAPS=$ROOT/testing/e2e/swaps
SWAPS_COPY=$STATE/swaps
SWAPS_TARGET=$STATE/swaps-target

swaps() {
    local patch test
    command -v git >/dev/null || die 69 "git is missing, which applies the patches"
    prepare_to_run
    start_servers
    export_environment
    export REQUIRE_SERVERS=1
    rm -rf "${SWAPS_TARGET:?}"
    mkdir -p "$SWAPS_TARGET/release"
    # So that only what a patch changes is built again. No links: cargo writes into some of these files.
    with_progress "copying the build" \
        cp -a "$ROOT/target/release/.fingerprint" "$ROOT/target/release/build" "$ROOT/target/release/deps" "$SWAPS_TARGET/release"
    for patch in "$SWAPS"/*.patch; do
        test=$(sed -n 's/^Noticed by: //p' "$patch")
        say "$(head -n 1 "$patch")"
        with_progress "$test, on the sources as they are" passes "$test" && grep -q '^test result: ok. 1 passed' "$(log_file swaps)" ||
            die 1 "$test does not pass even without the swap; $(last_lines swaps)"
        with_progress "building the copy" build_swapped "$patch"
        ! with_progress "$test, on the copy" passes_swapped "$test" ||
            die 1 "$test passes with the swap: it notices nothing"
        grep -q '^test result: FAILED. 0 passed; 1 failed' "$(log_file swaps)" ||
            die 1 "the test did not even run; $(last_lines swaps)"
        say "  noticed by $test: $(why_it_failed)"
    done
    rm -rf "$SWAPS_COPY" "$SWAPS_TARGET"
    say "every swap was noticed"
}

# Whether the patches fit the sources as they are.
check_swaps() {
    local patch
    command -v git >/dev/null || { say "no git here: testing/e2e/swaps is not checked"; return 0; }
    for patch in "$SWAPS"/*.patch; do
        (cd "$ROOT" && git apply --check "$patch") || die 1 "$patch no longer fits the sources"
    done
}

# A test ends by an error, whose text follows on the line, or by a panic, whose text is on the next line.
why_it_failed() {
    sed -n '/^Error: /{s/^Error: //p;q};/ panicked at /{n;p;q}' "$(log_file swaps)"
}

build_swapped() { # PATCH
    rm -rf "${SWAPS_COPY:?}"
    mkdir -p "$SWAPS_COPY"
    tar -C "$ROOT" --exclude=./.dev --exclude=./target --exclude=./.git --exclude=./testing/fuzz -cf - . | tar -C "$SWAPS_COPY" -xf -
    # Not as a part of the repository around it.
    (cd "$SWAPS_COPY" && GIT_CEILING_DIRECTORIES=$STATE git apply "$1") || die 1 "$1 no longer fits the sources"
    # What the last patch had changed is back to an older file, which cargo would not notice.
    touch "$SWAPS_COPY/ingest/src/lib.rs" "$SWAPS_COPY/worker/src/lib.rs"
    in_copy cargo build --release --locked --workspace >"$(log_file swaps)" 2>&1 ||
        die 1 "the copy cannot be built; $(last_lines swaps)"
}

passes() { # TEST
    in_root cargo test --release --locked --workspace --test pipeline -- --exact "$1" >"$(log_file swaps)" 2>&1
}

passes_swapped() { # TEST
    in_copy cargo test --release --locked --workspace --test pipeline -- --exact "$1" >"$(log_file swaps)" 2>&1
}

in_copy() {
    (cd "$SWAPS_COPY" && CARGO_TARGET_DIR=$SWAPS_TARGET "$@")
}
