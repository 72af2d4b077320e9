#!/bin/sh
# Product: Python package docker 7.2.0 (docker-py), over a Unix socket.
# Behaviour: a client that cannot connect leaves its socket to the garbage collector; each attempt is one ResourceWarning.
#   Over TCP nothing is left.
# Output seen: unix: 1 unclosed socket. tcp: 0 unclosed sockets.
# Guess before: none on either; the failed attempt closes what it opened.
# Why it matters: a server that waits for its Engine by trying again leaves one descriptor per attempt where cycles are
#   collected late, and tests with warnings as errors fail in whatever test happens to collect it.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 120 "$dir/venv/bin/pip" install --quiet docker==7.2.0
timeout 60 "$dir/venv/bin/python" - "$dir/absent.sock" <<'END'
import gc, socket, sys, warnings, docker

with socket.socket() as probe:  # a port nobody listens on
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]


def unclosed(address):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            docker.DockerClient(base_url=address, version="auto")
            sys.exit("connected to nothing")
        except docker.errors.DockerException:
            pass
        gc.collect()
    return sum("unclosed <socket" in str(w.message) for w in caught if w.category is ResourceWarning)


seen = {"unix": unclosed("unix://" + sys.argv[1]), "tcp": unclosed(f"tcp://127.0.0.1:{port}")}
for kind, count in seen.items():
    print(f"{kind}: {count} unclosed socket(s)")
if seen != {"unix": 1, "tcp": 0}:
    sys.exit("the behaviour has changed")
END
