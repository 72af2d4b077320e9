"""Listening sockets, bound for real on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.listener import bind

Bind = Callable[..., list[socket.socket]]


@pytest.fixture
def bound() -> Iterator[Bind]:
    """`bind`, with whatever it bound closed after the test."""
    opened: list[socket.socket] = []

    def binding(*args: str | int, **options: bool) -> list[socket.socket]:
        sockets = bind(*args, **options)  # type: ignore[arg-type]
        opened.extend(sockets)
        return sockets

    yield binding
    for sock in opened:
        sock.close()


def test_free_port(bound: Bind) -> None:
    """Port 0 picks one, on the address asked for."""
    (sock,) = bound("127.0.0.1", 0)
    host, port = sock.getsockname()
    assert (host, port > 0, sock.getblocking()) == ("127.0.0.1", True, False)


def test_accepts_once_listening(bound: Bind) -> None:
    """The socket is bound and nothing else: whoever owns it begins to listen."""
    (sock,) = bound("127.0.0.1", 0)
    with socket.socket() as client:
        assert client.connect_ex(sock.getsockname()) != 0
    sock.listen()
    with socket.socket() as client:
        assert client.connect_ex(sock.getsockname()) == 0


def test_taken(bound: Bind) -> None:
    """A taken port is said to be taken, at once."""
    (sock,) = bound("127.0.0.1", 0)
    sock.listen()
    with pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", sock.getsockname()[1])


def test_not_ours() -> None:
    """So is an address that this machine does not have."""
    with pytest.raises(OSError, match="assign"):
        bind("192.0.2.1", 0)


def test_shared_port(bound: Bind) -> None:
    """Workers share a port when all of them ask for it."""
    (first,) = bound("127.0.0.1", 0, reuse_port=True)
    (second,) = bound("127.0.0.1", first.getsockname()[1], reuse_port=True)
    assert first.getsockname() == second.getsockname()


def test_nothing_left_open_on_failure() -> None:
    """When one address of a host cannot be bound, those bound before are released."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for _ in range(2):
            with pytest.raises(OSError):
                bind("127.0.0.1", port)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_dual_stack(bound: Bind) -> None:
    """An empty host means every address, each with a socket of its own."""
    families = {sock.family for sock in bound("", 0)}
    assert socket.AF_INET in families
