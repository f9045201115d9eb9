# shellcheck shell=bash
# shellcheck disable=SC2034 # names set here are read in other files
# Every background process that ./dev starts: its pid file, its log, its end; and the ports that they listen on.
#
# A pid alone is never trusted, because the system hands it out again: each process is started with the variable
# COUNTERSIGN_PROCESS in its environment, and only the process that carries its own name there is looked after or killed.

PORTS_FILE=$STATE/ports.env
declare -A PORTS=()
# Set when a server had to move to another port, so that programs which know the old one are started again.
PORTS_MOVED=no

# What this invocation started, in order: the first to stop when it fails or is interrupted.
STARTED=()
trap 'end_progress; stop_what_was_started' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

open_state() {
    [[ -r /proc/self/environ ]] || die 69 "./dev runs on Linux only: it needs /proc"
    mkdir -p "$STATE/run" "$STATE/log" 2>/dev/null || true
    [[ -w $STATE/run && -O $STATE ]] || die 69 "$STATE is not yours to write: be the user who made it, or delete it"
    load_ports
}

# One ./dev at a time may start and stop things. Held on descriptor 9, which no child may inherit for long.
lock_state() {
    exec 9>"$STATE/lock"
    ! flock --nonblock 9 || return 0
    say "another ./dev is starting or stopping things: waiting for it"
    flock 9
}

unlock_state() {
    exec 9>&-
}

start_process() { # NAME COMMAND..
    local name=$1 pid
    shift
    local -x COUNTERSIGN_PROCESS=$STATE:$name
    # A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
    (cd / && exec setsid "$@") </dev/null >>"$(log_file "$name")" 2>&1 9>&- &
    pid=$!
    # Else bash would comment on its death.
    disown "$pid"
    echo "$pid" >"$(pid_file "$name")"
    STARTED+=("$name")
    # Until it has replaced the shell it came from, it does not carry its name yet.
    until is_process "$name" "$pid" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}

stop_process() { # NAME
    local name=$1 pid signal=TERM seconds=20
    # PostgreSQL's SIGTERM waits for clients to leave, SIGINT sends them away.
    [[ $name != postgres ]] || signal=INT
    if pid=$(running_pid "$name"); then
        kill -s "$signal" "$pid" 2>/dev/null || true
        # What the drill has frozen could not even hear of it.
        thaw_process "$name"
        if ! with_progress "stopping $name" await_end "$name" "$pid" "$seconds"; then
            end_progress
            say "$name (pid $pid) did not stop within $seconds s: killing it"
            kill -s KILL "$pid" 2>/dev/null || true
            await_end "$name" "$pid" 5 || say "$name (pid $pid) is still there"
        fi
    fi
    rm -f "$(pid_file "$name")"
}

kill_process() { # NAME
    local pid
    pid=$(running_pid "$1") || return 0
    kill -s KILL "$pid" 2>/dev/null || true
    await_end "$1" "$pid" 5
}

# Stands still with everything that it has started, as if its machine did.
freeze_process() { # NAME
    signal_family STOP "$1"
}

thaw_process() { # NAME
    signal_family CONT "$1"
}

signal_family() { # SIGNAL NAME
    local pid
    pid=$(running_pid "$2") || return 0
    # shellcheck disable=SC2046 # one word per child
    kill -s "$1" "$pid" $(cat "/proc/$pid/task/$pid/children" 2>/dev/null) 2>/dev/null || true
}

await_end() { # NAME PID SECONDS
    local deadline=$((SECONDS + $3))
    while is_process "$1" "$2"; do
        ((SECONDS <= deadline)) || return 1
        sleep 0.1
    done
}

# Waits for a condition, but not for a process that is dead already.
await() { # NAME SECONDS CONDITION..
    local name=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@"; do
        running_pid "$name" >/dev/null || die 1 "$name ended while starting; $(last_lines "$name")"
        ((SECONDS <= deadline)) || die 1 "$name is not ready; $(last_lines "$name")"
        sleep 0.1
    done
}

last_lines() { # NAME
    printf 'the end of %s:\n' "$(log_file "$1")"
    tail -n 12 "$(log_file "$1")" || true
}

running_pid() { # NAME
    local pid
    pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] && is_process "$1" "$pid" && echo "$pid"
}

is_process() { # NAME PID
    local environment
    for _ in 1 2 3; do
        environment=$(tr '\0' '\n' 2>/dev/null <"/proc/$2/environ") || return 1
        [[ -z $environment ]] || break
        # Either it is over or it is just replacing itself by another program, as start scripts do.
        sleep 0.05
    done
    [[ $'\n'$environment$'\n' == *$'\n'"COUNTERSIGN_PROCESS=$STATE:$1"$'\n'* ]]
}

is_running() { # NAME
    running_pid "$1" >/dev/null
}

# The names of a kind's processes that have a pid file, running or not: worker → worker-1, worker-2.
recorded() { # KIND
    local file
    for file in "$STATE/run/$1".pid "$STATE/run/$1"-*.pid; do
        [[ ! -e $file ]] || basename "$file" .pid
    done
}

pid_file() {
    echo "$STATE/run/$1.pid"
}

log_file() {
    echo "$STATE/log/$1.log"
}

stop_what_was_started() {
    local i
    [[ ${#STARTED[@]} -gt 0 ]] || return 0
    # A second Ctrl-C must not leave half of it behind.
    trap '' INT TERM HUP
    say "stopping what this command started: ${STARTED[*]}"
    lock_state
    for ((i = ${#STARTED[@]} - 1; i >= 0; i--)); do
        stop_process "${STARTED[i]}"
    done
    [[ " ${STARTED[*]} " != *' ingest '* ]] || rm -f "$SETTINGS"
}

keep_what_was_started() {
    STARTED=()
}

# Ports are picked once and kept, so that URLs stay valid from one `up` to the next.
load_ports() {
    local name number
    PORTS=()
    if [[ -f $PORTS_FILE ]]; then
        while IFS='=' read -r name number; do PORTS[$name]=$number; done <"$PORTS_FILE"
    fi
}

# To be called right before the owner of the port starts.
claim_port() { # NAME
    local old=${PORTS[$1]:-}
    if [[ -n $old ]]; then
        is_port_open "$old" || return 0
        say "port $old is taken by another program: picking another"
        PORTS_MOVED=yes
    fi
    PORTS[$1]=$(free_port)
    save_ports
}

# rabbitmq-2 PORT → RABBITMQ_2_PORT
port_name() { # PROCESS PORT
    local upper=${1^^}
    echo "${upper//-/_}_$2"
}

save_ports() {
    local name
    for name in "${!PORTS[@]}"; do echo "$name=${PORTS[$name]}"; done | sort >"$PORTS_FILE.new"
    mv "$PORTS_FILE.new" "$PORTS_FILE"
}

# Below 32768 the kernel does not hand ports out to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        [[ " ${PORTS[*]} " == *" $port "* ]] || is_port_open "$port" || break
    done
    echo "$port"
}

is_port_open() { # PORT
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# True when the URL http://127.0.0.1:PORT/PATH answers 200.
is_http_ok() { # PORT PATH
    (
        exec 8<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&8
        IFS= read -r -t 5 status <&8 && [[ $status == *' 200 '* ]]
    ) 2>/dev/null
}

# Letters and digits from the kernel: safe in a URL, in SQL and in TOML.
random_text() { # LENGTH
    local text=
    while [[ ${#text} -lt $1 ]]; do
        text+=$(head -c 256 /dev/urandom | LC_ALL=C tr -dc '0-9a-zA-Z')
    done
    echo "${text:0:$1}"
}
