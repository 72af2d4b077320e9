"""A client that asks for little, one request after the other: `… PORT HOST PATH`.

Says "ready" after its first answer and works until its standard input ends, then prints one JSON object. The request
that is under way then is waited for: the longest wait is often the last.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time

PAUSE = 0.001
"""Between two requests; without it the client alone would keep the proxy busy."""
PATIENCE = 180.0


def ask(sock: socket.socket, request: bytes) -> float:
    """Seconds until the answer, which is so small that it comes in one piece."""
    began = time.perf_counter()
    sock.sendall(request)
    answer = sock.recv(65536)
    taken = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"answered: {answer[:300]!r}")
    return taken


def main(port: int, host: str, path: str) -> None:
    """Asks until told to end."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # what is measured is the gateway's delay, not that of the load generators on this core
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask(sock, request)
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], PAUSE)[0]:
            times.append(ask(sock, request))
    times.sort()
    found = {"p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100], "longest_ms": times[-1]}
    print(json.dumps({"count": len(times), **{name: value * 1000 for name, value in found.items()}}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
