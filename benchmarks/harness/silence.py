"""A registry that takes every connection and never answers: what a pull meets behind a firewall that drops."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Silent:
    """The registry, on a port of 127.0.0.1 of its own."""

    def __init__(self) -> None:
        self._taken: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def callers(self) -> int:
        """How many connections it has taken."""
        return len(self._taken)

    def close(self) -> None:
        """Ends every connection and takes no more: whoever waits learns that nothing will come."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._taken:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._listener.accept()[0])


@contextlib.contextmanager
def silent_registry() -> Iterator[Silent]:
    """The registry for as long as the block runs."""
    registry = Silent()
    try:
        yield registry
    finally:
        registry.close()
