# shellcheck shell=bash
# What the developer sees: messages, progress and timings.
# All of it goes to stderr, so that stdout carries only what the command was asked for.

# Seconds of silence before a line says what is going on.
PROGRESS_AFTER=2
PROGRESS_PID=
PROGRESS_SINCE=0

say() {
    printf '%s\n' "$*" >&2
}

die() { # EXIT_STATUS MESSAGE
    end_progress
    printf 'dev: %s\n' "$2" >&2
    exit "$1"
}

# Runs a silent command and shows that it is alive.
with_progress() { # WHAT COMMAND..
    local what=$1
    shift
    PROGRESS_SINCE=$SECONDS
    show_elapsed "$what" 9>&- &
    PROGRESS_PID=$!
    # Called plainly: `|| ..` would switch `set -e` off inside the command.
    "$@"
    local status=$?
    end_progress
    return "$status"
}

show_elapsed() {
    local what=$1 begun=$SECONDS
    sleep "$PROGRESS_AFTER"
    if [[ ! -t 2 ]]; then
        say "$what ..."
    fi
    while sleep 1; do
        if [[ -t 2 ]]; then
            printf '\r%s ... %d s\033[K' "$what" $((SECONDS - begun)) >&2
        elif (((SECONDS - begun) % 15 == 0)); then
            say "$what ... $((SECONDS - begun)) s"
        fi
    done
}

end_progress() {
    [[ -n $PROGRESS_PID ]] || return 0
    # SIGTERM is ignored while cleaning up, and so it is in what was started meanwhile.
    kill -s KILL "$PROGRESS_PID" 2>/dev/null || true
    wait "$PROGRESS_PID" 2>/dev/null || true
    PROGRESS_PID=
    # Only its own line: another program may be drawing on the same terminal.
    if [[ -t 2 ]] && ((SECONDS - PROGRESS_SINCE >= PROGRESS_AFTER)); then
        printf '\r\033[K' >&2
    fi
}

# Runs a command that shows its own output, then says how long it took.
timed() { # WHAT COMMAND..
    local what=$1 begun=$SECONDS status=0
    shift
    say "== $what"
    "$@" || status=$?
    say "== $what: $((SECONDS - begun)) s$([[ $status -eq 0 ]] || printf ', failed')"
    return "$status"
}

# Quotes for any POSIX shell.
quoted() {
    printf "'%s'" "${1//\'/\'\\\'\'}"
}
