"""Whose word about others counts, and what is said of a client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.forwarded import TrustedPeers, chained_lines, forwarded_lines, port_of

OURS = TrustedPeers(["10.0.0.0/8", "fd00::/8", "192.0.2.5/24"])


@pytest.mark.parametrize("address", [b"10.0.0.1", b"10.255.255.255", b"fd00::1", b"192.0.2.200"])
def test_trusted(address: bytes) -> None:
    """Addresses inside a configured network; host bits in the configuration do no harm."""
    assert address in OURS
    assert address in OURS


@pytest.mark.parametrize("address", [b"11.0.0.1", b"fe80::1", b"", b"unknown", b"10.0.0.1:80", b"10.0.0.999", b"::1"])
def test_not_trusted(address: bytes) -> None:
    """Everything else, also what is no address."""
    assert address not in OURS


def test_nobody() -> None:
    """Without configuration nobody is trusted, the host itself included."""
    assert b"127.0.0.1" not in TrustedPeers(())


def test_remembered_answers_are_bounded() -> None:
    """Clients choose what is asked; the answers kept do not grow without end."""
    peers = TrustedPeers(["10.0.0.0/8"])
    for number in range(10_000):
        assert b"10.0.%d.%d" % divmod(number, 256) in peers
    assert len(peers._known) <= 4096


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        (b"10.0.0.1", b"203.0.113.9", b"203.0.113.9"),
        (b"10.0.0.1", b"203.0.113.9, 10.0.0.2", b"203.0.113.9"),
        (b"10.0.0.1", b"6.6.6.6, 203.0.113.9 ,\t10.0.0.2", b"203.0.113.9"),
        (b"10.0.0.1", b"10.0.0.3, 10.0.0.2", b"10.0.0.3"),
        (b"10.0.0.1", b"203.0.113.9, ", b"10.0.0.1"),
        (b"203.0.113.1", b"6.6.6.6", b"203.0.113.1"),
    ],
    ids=["one proxy", "two proxies", "forged first", "all ours", "empty hop", "stranger"],
)
def test_client(peer: bytes, chain: bytes, client: bytes) -> None:
    """The client is the rightmost address that is no trusted proxy: what stands left of it anybody may have written."""
    assert OURS.client(peer, chain) == client


@given(st.lists(st.sampled_from([b"10.0.0.1", b"fd00::9", b"6.6.6.6"]), max_size=4))
def test_forging_does_not_help(forged: list[bytes]) -> None:
    """Whatever a stranger writes into the chain, it is taken for itself."""
    chain = b", ".join([*forged, b"203.0.113.9"])
    assert OURS.client(b"10.0.0.1", chain) == b"203.0.113.9"


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [
        (b"a", b"http", b"80"),
        (b"a", b"https", b"443"),
        (b"a:8443", b"https", b"8443"),
        (b"[::1]", b"http", b"80"),
        (b"[::1]:81", b"http", b"81"),
        (b"[2001:db8::12]", b"https", b"443"),
        (b"", b"http", b"80"),
    ],
)
def test_port(host: bytes, scheme: bytes, port: bytes) -> None:
    """The port of the address that the client used."""
    assert port_of(host, scheme) == port


def test_lines() -> None:
    """What a sandbox is told of a client whose own marks do not count."""
    assert forwarded_lines(b"192.0.2.7", b"https", b"a.b:444") == (
        b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: a.b:444\r\nX-Forwarded-Port: 444\r\n"
    )


def test_chained_lines() -> None:
    """Behind a proxy that is believed: its marks, with itself at the end of the chain."""
    sent = {
        b"x-forwarded-for": b"203.0.113.9",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"public.example",
    }
    assert chained_lines(b"10.0.0.1", b"http", b"inner:8080", sent) == (
        b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: public.example\r\nX-Forwarded-Port: 443\r\n"
    )


def test_chained_lines_without_marks() -> None:
    """A trusted proxy that says nothing is a client like any other."""
    assert chained_lines(b"10.0.0.1", b"http", b"a", {}) == forwarded_lines(b"10.0.0.1", b"http", b"a")
