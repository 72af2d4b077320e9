"""Limits per client address: connections, unfinished heads and request rate, so that no client starves the others.

A client counts as its IPv4 address, or as the /64 of its IPv6 address: a site is given such a network, and its
addresses cost nothing. A trusted proxy is nobody's client: its connections are not counted, and its requests count for
whom it names. Nor are connections over a Unix socket counted, which have no address.

What is remembered is bounded: of addresses with a connection there are as many as connections, and of those that ask
often the last `REMEMBERED`.
"""

from __future__ import annotations

from typing import Final

from gateway.access.api_keys import source_of
from gateway.access.token_bucket import TokenBuckets
from gateway.limits import Limits
from gateway.metrics import Counters

REMEMBERED: Final = 10_000
"""Addresses whose requests are counted; the one that has asked least recently is forgotten first."""
TOLD: Final = 64
"""Most connections over a limit that get an error response at a time; further ones are closed without one."""


class Caller:
    """One client address that has connections."""

    __slots__ = ("connections", "heads", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.connections = 0
        self.heads = 0
        """Requests whose head has begun and not ended."""


class Callers:
    """All client addresses."""

    __slots__ = ("_callers", "_counters", "_requests", "most_connections", "most_heads")

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._counters = counters
        self.most_connections = limits.max_client_connections or max(1, limits.max_connections // 2)
        self.most_heads = limits.max_client_heads or limits.max_connections
        self._callers: dict[str, Caller] = {}
        self._requests: TokenBuckets[str] | None = None
        if limits.client_requests_per_second:
            rate = limits.client_requests_per_second
            self._requests = TokenBuckets(limits.client_requests_burst or max(1.0, rate), rate, REMEMBERED)

    @property
    def counts_requests(self) -> bool:
        """Whether requests are rate-limited at all."""
        return self._requests is not None

    def arrive(self, address: bytes) -> Caller | None:
        """Counts one connection more; None when the address has as many as it may."""
        source = source_of(address.decode("latin-1"))
        caller = self._callers.get(source)
        if caller is None:
            caller = self._callers[source] = Caller(source)
            self._counters.client_addresses += 1
        elif caller.connections >= self.most_connections:
            return None
        caller.connections += 1
        return caller

    def leave(self, caller: Caller) -> None:
        """Counts one connection less."""
        caller.connections -= 1
        if not caller.connections:
            del self._callers[caller.source]
            self._counters.client_addresses -= 1

    def ask(self, address: bytes, now: float) -> float:
        """Counts a request; 0.0 when it may go on, else the seconds until one may."""
        if self._requests is None:
            return 0.0
        return self._requests.get(source_of(address.decode("latin-1")), now).take(now)
