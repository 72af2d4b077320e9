"""How the ports of one sandbox can be dialled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """Where one port of a sandbox is dialled: host, port, and the path prefix that a relay needs."""

    host: str
    port: int
    prefix: bytes = b""
    forwarded: bool = False
    """Whether a forwarder in between accepts the connection before the sandbox does."""

    @property
    def authority(self) -> bytes:
        """Host and port as a Host header names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return b"%b:%d" % (host.encode("ascii"), self.port)


@dataclass(frozen=True, slots=True)
class Targets:
    """How the ports of one sandbox can be dialled, best way first (design: address › published port › relay).

    `host` is an address on which every port answers; `published` maps a port inside to the address it is published
    on; `relay` is the address of execd, whose `/proxy/{port}/` reaches any port that is not published. `forwarded` says
    that published addresses may be a forwarder's, which accepts before it knows whether anybody listens behind it.
    `relayed` are ports that are always reached through execd, since some requests are taken from loopback only.
    """

    host: str | None = None
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    relay: tuple[str, int] | None = None
    forwarded: bool = False
    relayed: frozenset[int] = frozenset()

    def target(self, port: int) -> Target | None:
        """The address to dial for `port` inside the sandbox, or None when nothing leads there."""
        if port not in self.relayed:
            if self.host is not None:
                return Target(self.host, port)
            address = self.published.get(port)
            if address is not None:
                return Target(*address, forwarded=self.forwarded)
        if self.relay is not None:
            return Target(*self.relay, b"/proxy/%d" % port, forwarded=self.forwarded and self.host is None)
        return None
