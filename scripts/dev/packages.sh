# shellcheck shell=bash
# What must be installed: a Rust tool chain and a C compiler to build, PostgreSQL and RabbitMQ to run.
#
# Missing Debian packages are installed without starting anything: the private servers are all that ./dev runs,
# and a server that the machine has already is left alone.

POSTGRES_MIN=13

POLICY=/usr/sbin/policy-rc.d
CLUSTER_CONF=/etc/postgresql-common/createcluster.d/countersign-dev.conf

require_build_tools() {
    command -v cargo >/dev/null ||
        die 69 "cargo is missing: install Rust from https://rustup.rs, then open a new shell"
    has_c_compiler || install_packages
}

require_servers() {
    uses_own_servers || return 0
    if ! has_postgres || ! has_rabbitmq; then
        install_packages
    fi
}

has_c_compiler() {
    command -v cc >/dev/null
}

has_postgres() {
    [[ -n $(postgres_programs) ]]
}

has_rabbitmq() {
    [[ -n $(rabbitmq_programs) ]] && command -v erl epmd >/dev/null
}

install_packages() {
    local missing=() fresh_rabbitmq=no
    has_c_compiler || missing+=(build-essential)
    has_postgres || missing+=(postgresql)
    has_rabbitmq || missing+=(rabbitmq-server)
    [[ ${#missing[@]} -gt 0 ]] || return 0

    command -v apt-get >/dev/null ||
        die 69 "please install: a C compiler (cc), PostgreSQL $POSTGRES_MIN or newer with its server, RabbitMQ 3.10 or newer (missing here, by Debian's names: ${missing[*]})"
    choose_root_command "${missing[@]}"
    [[ " ${missing[*]} " != *' rabbitmq-server '* ]] || fresh_rabbitmq=yes

    lock_state
    say "installing: ${missing[*]}"
    with_progress "apt-get update" apt_get update
    forbid_service_starts
    with_progress "apt-get install ${missing[*]}" apt_get install "${missing[@]}"
    allow_service_starts
    [[ $fresh_rabbitmq == no ]] || disable_fresh_services
    unlock_state
    say "installed: ${missing[*]}"
}

choose_root_command() { # PACKAGE..
    AS_ROOT=()
    [[ $EUID -ne 0 ]] || return 0
    AS_ROOT=(sudo)
    if command -v sudo >/dev/null && { sudo --non-interactive true 2>/dev/null || { [[ -t 0 ]] && sudo true; }; }; then
        return 0
    fi
    die 69 "some packages are missing; as root, run: apt-get update && apt-get install --no-install-recommends -y $*"
}

apt_get() {
    local log
    log=$(log_file apt)
    "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive COUNTERSIGN_INSTALLS=yes apt-get --quiet --yes \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" \
        </dev/null >>"$log" 2>&1 9>&- ||
        die 69 "apt-get $1 failed; $(last_lines apt)"
}

# Debian starts a service as soon as its package is unpacked, unless policy-rc.d says no. Ours says it to the apt-get of this
# file only, which it knows by a variable: when ./dev is killed and leaves it behind, it forbids nothing to anybody else.
forbid_service_starts() {
    trap 'end_progress; allow_service_starts; stop_what_was_started' EXIT
    if [[ ! -e $POLICY ]]; then
        printf '#!/bin/sh\n%s\n[ "$COUNTERSIGN_INSTALLS" != yes ] || exit 101\nexit 0\n' "$(maker)" | write_as_root "$POLICY" 755
        POLICY_IS_OURS=yes
    fi
    if [[ ! -e $CLUSTER_CONF ]]; then
        printf '%s\ncreate_main_cluster = false\n' "$(maker)" | write_as_root "$CLUSTER_CONF" 644
        CLUSTER_CONF_IS_OURS=yes
    fi
}

# The comment that says which ./dev made a file, and that may delete it.
maker() {
    echo "# Made by Countersign's ./dev for one installation: process $$ of $(begun_at $$)"
}

begun_at() { # PID
    cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null
}

# What an installation that was killed has left, deleted by the next ./dev, whatever that is asked for.
delete_leftovers_of_an_installation() {
    local file leftovers=()
    for file in "$POLICY" "$CLUSTER_CONF"; do
        ! is_left_over "$file" || leftovers+=("$file")
    done
    [[ ${#leftovers[@]} -gt 0 ]] || return 0
    AS_ROOT=()
    [[ $EUID -eq 0 ]] || AS_ROOT=(sudo --non-interactive)
    "${AS_ROOT[@]}" rm -f "${leftovers[@]}" 2>/dev/null ||
        say "an installation that was killed has left ${leftovers[*]}: as root, delete it"
}

is_left_over() { # FILE
    local line
    line=$(grep -s "^# Made by Countersign's ./dev " "$1") || return 1
    [[ $line =~ process\ ([0-9]+)\ of\ ([0-9]+)$ ]] || return 0
    [[ $(begun_at "${BASH_REMATCH[1]}") != "${BASH_REMATCH[2]}" ]]
}

allow_service_starts() {
    [[ -z ${POLICY_IS_OURS:-} ]] || "${AS_ROOT[@]}" rm -f "$POLICY"
    [[ -z ${CLUSTER_CONF_IS_OURS:-} ]] || "${AS_ROOT[@]}" rm -f "$CLUSTER_CONF"
    POLICY_IS_OURS='' CLUSTER_CONF_IS_OURS=''
    trap 'end_progress; stop_what_was_started' EXIT
}

# A machine that had no RabbitMQ does not want one after its next boot either.
disable_fresh_services() {
    command -v systemctl >/dev/null || return 0
    "${AS_ROOT[@]}" systemctl disable rabbitmq-server.service epmd.service epmd.socket >>"$(log_file apt)" 2>&1 9>&- || true
    say "left disabled as a system service: rabbitmq-server (enable it with systemctl if you want it)"
}

write_as_root() { # PATH MODE, text on stdin
    "${AS_ROOT[@]}" mkdir -p "$(dirname "$1")"
    "${AS_ROOT[@]}" tee "$1" >/dev/null
    "${AS_ROOT[@]}" chmod "$2" "$1"
}
