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


class Quiet:
    """One connection, made again when it is lost: a gateway that was held up may take its client for a silent one."""

    def __init__(self, port: int, host: str, path: str) -> None:
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._connect()
        self.lost = 0

    def _connect(self) -> None:
        self._sock = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> float:
        """Seconds until the answer, which is so small that it comes in one piece."""
        began = time.perf_counter()
        while not (answer := self._try()):
            self.lost += 1
            self._sock.close()
            self._connect()
        if not answer.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"answered: {answer[:300]!r}")
        return time.perf_counter() - began

    def _try(self) -> bytes:
        try:
            self._sock.sendall(self._request)
            return self._sock.recv(65536)
        except ConnectionError:
            return b""


def main(port: int, host: str, path: str) -> None:
    """Asks until told to end."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # what is measured is the gateway's delay, not that of the load generators on this core
    times: list[float] = []
    client = Quiet(port, host, path)
    client.ask()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        times.append(client.ask())
    times.sort()
    found = {"p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100], "longest_ms": times[-1]}
    print(
        json.dumps({"count": len(times), "lost": client.lost, **{name: value * 1000 for name, value in found.items()}}),
        flush=True,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
