"""The wildcard domain in the system's own resolver, for programs that have no other place to be told of it.

A small name server answers for the domain on a loopback address; a program that is to ask it runs in a mount namespace
where /etc/resolv.conf names that server. Nothing of the host's own configuration changes. Needs root and Linux.
"""

from __future__ import annotations

import contextlib
import random
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.clients.modes import WILDCARD_DOMAIN

DNS_PORT = 53
ADDRESSES_TRIED = 20
A, IN, TTL_SECONDS = 1, 1, 60
ANSWER, NO_SUCH_NAME = 0x8580, 0x8583
QUESTION_AT = 12
NAME_OF_QUESTION = 0xC000 | QUESTION_AT
HERE = bytes([127, 0, 0, 1])
IN_NAMESPACE = (
    'mount --bind "$0" /etc/resolv.conf && { [ ! -e /etc/nsswitch.conf ] || mount --bind "$1" /etc/nsswitch.conf; }'
    ' && shift && exec "$@"'
)


class PortTaken(OSError):
    """Raised when no loopback address with a free port 53 was found."""


def question(query: bytes) -> tuple[str, int, int]:
    """Name and type asked for, and where the question ends; raises ValueError for what is no query."""
    labels, at = [], QUESTION_AT
    try:
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode("ascii"))
            at += 1 + size
        (kind,) = struct.unpack_from("!H", query, at + 1)
    except (IndexError, struct.error) as exc:
        raise ValueError("cut off") from exc
    return ".".join(labels).lower(), kind, at + 5


def reply(query: bytes) -> bytes:
    """127.0.0.1 for names under the wildcard domain, no address of another family for them, and no other names."""
    name, kind, end = question(query)
    known = name.endswith("." + WILDCARD_DOMAIN)
    record = (
        struct.pack("!HHHIH", NAME_OF_QUESTION, A, IN, TTL_SECONDS, len(HERE)) + HERE if known and kind == A else b""
    )
    head = struct.pack("!HHHHH", ANSWER if known else NO_SUCH_NAME, 1, 1 if record else 0, 0, 0)
    return query[:2] + head + query[QUESTION_AT:end] + record


class Questions(socketserver.BaseRequestHandler):
    """One datagram."""

    def handle(self) -> None:
        """Answers it; what is no query is dropped."""
        query, socket = self.request
        with contextlib.suppress(ValueError):
            socket.sendto(reply(query), self.client_address)


class NameServer(socketserver.ThreadingUDPServer):
    """The name server, and how a program is started that asks it."""

    daemon_threads = True
    address: str

    @classmethod
    @contextlib.contextmanager
    def listening(cls) -> Iterator[Self]:
        """Serves until the end of the block; raises PermissionError without the right to port 53, or PortTaken."""
        server = cls.bound()
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield server
        server.shutdown()
        serving.join()
        server.server_close()

    @classmethod
    def bound(cls) -> Self:
        """On a loopback address that nobody else serves names on."""
        for _ in range(ADDRESSES_TRIED):
            address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
            try:
                server = cls((address, DNS_PORT), Questions)
            except PermissionError:
                raise
            except OSError:
                continue
            server.address = address
            return server
        raise PortTaken(f"none of {ADDRESSES_TRIED} loopback addresses has port {DNS_PORT} free")

    def asked_by(self, command: Sequence[str | Path], folder: Path) -> list[str | Path]:
        """The command that runs `command` with this server as the system's; its two files are put into `folder`."""
        resolver, order = folder / "resolv.conf", folder / "nsswitch.conf"
        resolver.write_text(f"nameserver {self.address}\n")
        order.write_text("hosts: files dns\n")
        return ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, resolver, order, *command]
