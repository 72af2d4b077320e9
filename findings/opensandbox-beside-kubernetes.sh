#!/bin/sh
# Product: Python packages opensandbox 1.1.1 and kubernetes 37.0.2 (the one with kubernetes.aio), by pip.
# Behaviour: they cannot be installed into one environment: the first wants python-dateutil below 3, the second 3 or newer.
# Output seen: ERROR: ResolutionImpossible, naming python-dateutil for both.
# Guess before: they have nothing to do with each other and install side by side.
# Why it matters: a job that steers its cluster and uses sandboxes from the same process needs two environments, an older
#   kubernetes, or kubernetes-asyncio; a server with the new client cannot test the SDK in its own environment.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
resolve() { timeout 200 "$dir/venv/bin/pip" install --dry-run "$@" >"$dir/out" 2>&1; }
resolve opensandbox==1.1.1 || { echo "opensandbox alone does not resolve"; exit 1; }
resolve kubernetes==37.0.2 || { echo "kubernetes alone does not resolve"; exit 1; }
if resolve opensandbox==1.1.1 kubernetes==37.0.2; then
    echo "the behaviour has changed: both resolve together"
    exit 1
fi
grep -E "ResolutionImpossible|depends on" "$dir/out" | sort -u
grep -q "ResolutionImpossible" "$dir/out"
grep -q "opensandbox 1.1.1 depends on python-dateutil<3" "$dir/out"
