"""Downloads or uploads at full speed, each on a thread of its own: `… PORT HOST COUNT down|up`.

Works until its standard input ends, then prints the bytes per second as one JSON object.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time

BLOCK = bytes(1 << 20)
BUFFER = bytearray(1 << 20)


class Stream(threading.Thread):
    """One connection; `moved` is what has gone through it."""

    def __init__(self, port: int, host: str, way: str) -> None:
        super().__init__(daemon=True)
        self.moved = 0
        self._up = way == "up"
        self._sock = socket.create_connection(("127.0.0.1", port))
        line = "POST /sink" if self._up else "GET /bulk"
        extra = "Content-Length: 1000000000000000\r\n" if self._up else ""
        self._sock.sendall(f"{line} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode())

    def run(self) -> None:
        if self._up:
            while True:
                self._sock.sendall(BLOCK)
                self.moved += len(BLOCK)
        # Counted and thrown away in the kernel: the load generator shares its core with the sandbox.
        while count := self._sock.recv_into(BUFFER, len(BUFFER), socket.MSG_TRUNC):
            self.moved += count


def main(port: int, host: str, count: int, way: str) -> None:
    """Moves bytes until told to end."""
    streams = [Stream(port, host, way) for _ in range(count)]
    for stream in streams:
        stream.start()
    began = time.perf_counter()
    print("ready", flush=True)
    sys.stdin.read()
    rate = sum(stream.moved for stream in streams) / (time.perf_counter() - began)
    print(json.dumps({"mib_per_second": rate / (1 << 20)}), flush=True)
    os._exit(0)  # the threads are in the middle of it


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
