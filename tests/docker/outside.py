"""What is outside of a sandbox: a network namespace of the tests' own with a name server and web servers.

A name stands for the address that its first label spells (`198-18-7-3.allowed.test`), for five minutes or for as long
as a label `ttl-N` says. Every question and every visit is written down, so that a test asserts what arrived.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

RESOLVER, TARGET, OTHER, THIRD = 2, 3, 4, 5
"""Last parts of the addresses."""
WEB_PORTS = (80, 853)
DEADLINE = 20.0


class Outside:
    """The namespace, from `open` to `close`."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="outside-"))
        self._number = 0
        self._server: subprocess.Popen[bytes] | None = None

    @staticmethod
    def possible() -> bool:
        """Whether a network namespace can be made here."""
        return os.geteuid() == 0 and shutil.which("ip") is not None

    def open(self) -> Outside:
        """Makes the namespace, connects it to this host, and starts its servers."""
        taken = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
        free = [number for number in range(1, 255) if f"198.18.{number}." not in taken]
        self._number = random.choice(free)
        name, ours, theirs = f"outside{self._number}", f"out{self._number}a", f"out{self._number}b"
        ip("netns", "add", name)
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("addr", "add", f"{self._at(1)}/24", "dev", ours)
        ip("link", "set", ours, "up")
        for last in (RESOLVER, TARGET, OTHER, THIRD):
            ip("-n", name, "addr", "add", f"{self._at(last)}/24", "dev", theirs)
        for device in (theirs, "lo"):
            ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "route", "add", "default", "via", self._at(1))
        command = ["ip", "netns", "exec", name, sys.executable, __file__, str(self.home), self._at(RESOLVER)]
        self._server = subprocess.Popen(command)
        self._wait()
        return self

    def close(self) -> None:
        """Ends the servers and takes the namespace away with what is connected to it."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        ip("netns", "del", f"outside{self._number}")
        shutil.rmtree(self.home)

    def _at(self, last: int) -> str:
        return f"198.18.{self._number}.{last}"

    def _wait(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                for port in (53, *WEB_PORTS):
                    socket.create_connection((self.resolver, port), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    @property
    def resolver(self) -> str:
        """The address of the name server."""
        return self._at(RESOLVER)

    def address(self, last: int) -> str:
        """The address of a web server."""
        return self._at(last)

    def name(self, last: int, domain: str) -> str:
        """The name of a web server below a domain."""
        return f"{self._at(last).replace('.', '-')}.{domain}"

    def questions(self) -> list[str]:
        """The names that the name server was asked for, one entry for each question."""
        return self._lines("questions")

    def visits(self) -> list[str]:
        """What the web servers were asked for."""
        return self._lines("visits")

    def _lines(self, name: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.home / name).read_text().splitlines()
        return []


def ip(*arguments: str) -> None:
    """Runs the program of that name."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


# what runs inside


def note(place: Path, text: str) -> None:
    """One line, at once."""
    with place.open("a") as file:
        file.write(f"{text}\n")


def answer(query: bytes, seen: Path) -> bytes:
    """One answer as RFC 1035 frames it; only addresses of version 4 have records."""
    end = query.index(b"\0", 12)
    labels, place = [], 12
    while place < end:
        labels.append(query[place + 1 : place + 1 + query[place]].decode())
        place += 1 + query[place]
    name, question = ".".join(labels), query[12 : end + 5]
    note(seen, name)
    try:
        address = ipaddress.IPv4Address(labels[0].replace("-", ".") if labels else "")
    except ValueError:
        return query[:2] + struct.pack(">HHHHH", 0x8583, 1, 0, 0, 0) + question
    ttl = next((int(label[4:]) for label in labels if label.startswith("ttl-")), 300)
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", ttl, 4) + address.packed
    wanted = question[-4:-2] == b"\0\1"
    return query[:2] + struct.pack(">HHHHH", 0x8580, 1, int(wanted), 0, 0) + question + (record if wanted else b"")


def serve_datagrams(server: socket.socket, seen: Path) -> None:
    """Look-ups by UDP."""
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query, seen), client)


def clients(server: socket.socket) -> Iterator[socket.socket]:
    """Connections, each open while it is worked on; one that breaks is no news."""
    while True:
        client, _ = server.accept()
        with client, contextlib.suppress(OSError, IndexError, struct.error):
            client.settimeout(5)
            yield client


def serve_streams(server: socket.socket, seen: Path) -> None:
    """Look-ups by TCP."""
    for client in clients(server):
        head = client.recv(2)
        if len(head) == 2:
            told = answer(client.recv(struct.unpack(">H", head)[0]), seen)
            client.sendall(struct.pack(">H", len(told)) + told)


def serve_web(server: socket.socket, seen: Path) -> None:
    """Every request is answered with the address that it came to."""
    for client in clients(server):
        head = client.recv(4096).decode("latin-1")
        if head:
            note(seen, head.split()[1])
            text = client.getsockname()[0]
            client.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


def serve(home: Path, resolver: str) -> None:
    """All servers, until killed."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((resolver, 53))
    questions, visits = home / "questions", home / "visits"
    streams = socket.create_server((resolver, 53))
    work = [(serve_datagrams, datagrams, questions), (serve_streams, streams, questions)]
    work += [(serve_web, socket.create_server(("", port)), visits) for port in WEB_PORTS]
    threads = [threading.Thread(target=loop, args=(server, seen)) for loop, server, seen in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
