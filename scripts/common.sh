# What the verbs share. Sourced by them, never run.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
venv="$root/.venv"

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Packages may be installed where we are root on a system that has apt-get; everywhere else we only say what to do.
may_install_packages() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

install_packages() {
    say "installing system packages: $*"
    apt_log=$(mktemp)
    if ! { apt_get "$@" || { apt-get update && apt_get "$@"; }; } >"$apt_log" 2>&1; then
        tail -n 20 "$apt_log" >&2
        rm -f "$apt_log"
        fail "apt-get could not install: $*"
    fi
    rm -f "$apt_log"
}

# Some packages bring a service. Nothing of it starts by itself: what is needed is started by whoever needs it.
apt_get() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
)

# The builder takes the system's own Python into the images.
build_images() {
    [ -x /usr/bin/python3 ] || { may_install_packages && install_packages python3; } ||
        fail "the test images are built from the system's /usr/bin/python3, which is missing"
    tests/images/build >/dev/null
}
