"""Many clients that wait, as a process of its own: opens connections and notes when and how each of them ends.

`python3 crowd.py PORT ROUTE WEBSOCKETS STREAMS` prints `ready` when all are open, and when all have ended one JSON list
of [kind, seconds on the monotonic clock, how]. Each process of a machine reads the same clock.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
LAST_CHUNK = b"0\r\n\r\n"
CLOSE_FRAME = 0x88


class Waiting:
    """One connection that is open."""

    def __init__(self, kind: str, port: int, route: str) -> None:
        self.kind = kind
        self.ended = 0.0
        self.rest = b""
        """What came after the greeting."""
        self.reset = False
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        wanted = UPGRADE % KEY if kind == "websocket" else b""
        head = b"GET /open HTTP/1.1\r\nHost: gateway.test\r\nOpenSandbox-Ingress-To: %b\r\n%b\r\n"
        self.socket.sendall(head % (route.encode(), wanted))
        greeting = b"hi" if kind == "websocket" else b"hi\r\n"
        data = b""
        while not data.endswith(greeting):
            more = self.socket.recv(65536)
            if not more:
                raise SystemExit(f"refused: {data!r}")
            data += more
        self.socket.setblocking(False)

    def read(self) -> bool:
        """Takes what has come; says whether this connection has ended: by a close frame, or by its socket's end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            self.reset, data = True, b""
        self.rest += data
        if data and not (self.kind == "websocket" and self.rest[0] == CLOSE_FRAME):
            return False
        self.ended = time.monotonic()
        return True

    def how(self) -> str:
        """How it ended, in words."""
        if self.kind == "websocket":
            if not self.rest:
                return "no close frame"
            code, reason = self.rest[2:4], self.rest[4:].decode("utf-8", "replace")
            return f"{int.from_bytes(code, 'big')} {reason}"
        return "complete" if self.rest.endswith(LAST_CHUNK) else "truncated"


def main(port: int, route: str, websockets: int, streams: int) -> None:
    """Opens them all, waits for the end of all."""
    kinds = ["websocket"] * websockets + ["stream"] * streams
    crowd = [Waiting(kind, port, route) for kind in kinds]
    selector = selectors.DefaultSelector()
    for one in crowd:
        selector.register(one.socket, selectors.EVENT_READ, one)
    print("ready", flush=True)  # noqa: T201 - the protocol with whoever started it
    left = len(crowd)
    while left:
        for key, _ in selector.select():
            if key.data.read():
                selector.unregister(key.fileobj)
                left -= 1
    print(json.dumps([[one.kind, one.ended, one.how()] for one in crowd]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
