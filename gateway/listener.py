"""Listening sockets, bound before anything else starts: a taken port is known while nothing has happened; and TLS."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from typing import Final

_NOISE: Final = frozenset(("SSL connection is closed", "socket.send() raised exception."))
"""The event loop's warning about writes to a disconnected client, which clients could trigger at will."""


def leave_out_noise() -> None:
    """A log filter for uninformative lines that clients can trigger."""
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg not in _NOISE


def bind(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Sockets bound to every address of `host` (one, for an IP address); port 0 picks a free one.

    Raises OSError naming host and port when an address is taken or is not ours.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sockets.append(_bind(socket.socket(family, kind, protocol), address, reuse_port=reuse_port))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(sock: socket.socket, address: object, *, reuse_port: bool) -> socket.socket:
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            # A dual-stack host is given as two addresses; one socket must not take both.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)  # type: ignore[arg-type]
        undo.pop_all()
    return sock


class Certificate:
    """A certificate and its key, as files that may be replaced while the server runs."""

    def __init__(self, certificate: str, key: str) -> None:
        """Reads both; raises OSError or ssl.SSLError when they cannot be used."""
        self._files = (certificate, key)
        self._stamp = self._stamps()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        # HTTP/1.1 only; a client that insists on h2 fails in the handshake (ALPN).
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.load_cert_chain(certificate, key)

    def refresh(self) -> bool:
        """Reloads the files when they have changed; new handshakes use them. Returns whether it did.

        Raises OSError or ssl.SSLError when the new ones cannot be used: the old ones stay in use.
        """
        stamp = self._stamps()
        if stamp == self._stamp:
            return False
        # A pair that does not fit must not get into the live context: the loading order would leave half of it there.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
        self.context.load_cert_chain(*self._files)
        self._stamp = stamp
        return True

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple((status.st_mtime_ns, status.st_ino) for status in map(os.stat, self._files))
