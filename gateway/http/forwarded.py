"""Trusted proxies and the `X-Forwarded-*`/`Forwarded` headers.

Forwarding marks that a client sends are removed unless its address is one of the configured proxies; then they are
kept and completed. The rightmost address that is no trusted proxy is the client (RFC 7239 §7.5 explains why left is
not to be believed).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_CACHED = 4096
_MOST_HOPS = 32
"""Most hops of a chain that are evaluated; a client may put any number in front of its own."""


@dataclass(slots=True)
class Peer:
    """The other end of a client connection. Nobody changes one; it is not frozen, since that makes it slow to make."""

    address: bytes
    scheme: bytes
    """What the listener speaks: `http` or `https`."""
    trusted: bool
    """Whether it is one of the configured proxies."""


class TrustedPeers:
    """The proxies in front of the gateway whose forwarding headers are trusted."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self._known: dict[bytes, bool] = {}

    def __contains__(self, address: bytes) -> bool:
        if not self._networks:
            return False
        known = self._known.get(address)
        if known is None:
            known = self._lookup(address)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[address] = known
        return known

    def _lookup(self, address: bytes) -> bool:
        try:
            parsed = ipaddress.ip_address(address.decode("ascii"))
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def peer(self, address: bytes, scheme: bytes) -> Peer:
        """The peer with this address on a listener of this scheme."""
        return Peer(address, scheme, address in self)

    def caller(self, peer: Peer, sent: Mapping[bytes, bytes] | None) -> bytes:
        """Where a request comes from: the connection's peer, or whom a trusted one names in what it has sent."""
        if not peer.trusted or not sent:
            return peer.address
        chain = sent.get(b"x-forwarded-for")
        if chain is None and b"forwarded" in sent:
            chain = _forwarded_for(sent[b"forwarded"])
        return peer.address if chain is None else self.client(peer.address, chain)

    def client(self, peer: bytes, forwarded_for: bytes) -> bytes:
        """The client's address, given the connection's peer and the X-Forwarded-For it sent."""
        client = peer
        for hop in reversed(forwarded_for.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:]):
            if client not in self:
                break
            hop = hop.strip(b" \t")
            if not hop:
                break
            client = _without_port(hop)
        return client


def _forwarded_for(forwarded: bytes) -> bytes:
    """The addresses in a Forwarded header (RFC 7239) as X-Forwarded-For has them; nothing where one is hidden."""
    return b",".join(_for_of(element) for element in forwarded.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:])


def _for_of(element: bytes) -> bytes:
    for pair in element.split(b";"):
        name, _, value = pair.partition(b"=")
        if name.strip(b" \t").lower() == b"for":
            node = value.strip(b' \t"')
            return b"" if node[:1] == b"_" or node == b"unknown" else node
    return b""


def _without_port(node: bytes) -> bytes:
    """Some balancers write the port of the client too, which is another one each time."""
    if node[:1] == b"[":
        return node[1:].partition(b"]")[0]
    host, _, port = node.partition(b":")
    return node if b":" in port else host


def forwarded_lines(peer: bytes, scheme: bytes, host: bytes) -> bytes:
    """The X-Forwarded lines for a client whose own marks, if any, are not believed."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Port: %b\r\n" % (
        peer,
        scheme,
        host,
        port_of(host, scheme),
    )


def chained_lines(peer: bytes, scheme: bytes, host: bytes, sent: Mapping[bytes, bytes]) -> bytes:
    """The X-Forwarded lines behind a trusted proxy: its marks, with itself added to the chain."""
    chain = sent.get(b"x-forwarded-for")
    scheme = sent.get(b"x-forwarded-proto", scheme)
    host = sent.get(b"x-forwarded-host", host)
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Port: %b\r\n" % (
        peer if chain is None else chain + b", " + peer,
        scheme,
        host,
        sent.get(b"x-forwarded-port") or port_of(host, scheme),
    )


def effective_scheme(peer: Peer, sent: Mapping[bytes, bytes] | None) -> bytes:
    """What the client itself speaks: behind a trusted proxy that says so, since TLS may end there."""
    if peer.trusted and sent:
        said = sent.get(b"x-forwarded-proto", b"").lower()
        if said in (b"http", b"https"):
            return said
    return peer.scheme


def standard_line(peer: bytes, scheme: bytes, host: bytes, sent: bytes | None) -> bytes:
    """The Forwarded line of RFC 7239; `sent` is a trusted proxy's, which is continued."""
    node = b'"[%b]"' % peer if b":" in peer else peer
    element = b'for=%b;host="%b";proto=%b' % (node, host, scheme)
    return b"Forwarded: %b\r\n" % (element if sent is None else sent + b", " + element)


def port_of(host: bytes, scheme: bytes) -> bytes:
    """The port a Host names, or the scheme's own."""
    _, colon, port = host.rpartition(b":")
    if colon and port.isdigit():
        return port
    return b"443" if scheme == b"https" else b"80"
