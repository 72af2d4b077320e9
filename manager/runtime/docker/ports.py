"""Host ports for publishing: looked for from a random one of the configured range on, held until their create is over.

The whole range is walked, so that a create succeeds as long as a port is free. Where the Engine's ports are this
machine's we bind them to see; elsewhere a port at which somebody answers is taken, and the Engine is given what follows
one at which nobody does, since an outgoing connection may use it all the same: it takes one that it can have.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from manager.domain import errors

EXHAUSTED = "DOCKER::SANDBOX_START_FAILED"
RETRY_SECONDS = 10
"""When a caller for whom no port was free is asked to come back."""
ANSWER_LIMIT = 1.0
"""Seconds for which a port of another machine is asked; one that does not answer at all may be free."""
WALK_LIMIT = 10.0
"""Seconds spent on asking; after that the Engine is left to find out."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a port is looked at: `is_free(address, port)` blocks for `ANSWER_LIMIT` at most; `exact`: it is sure."""

    is_free: Callable[[str, int], bool]
    exact: bool


class Ports:
    """Allocates ports of one range."""

    def __init__(self, ports: range, probe: Probe) -> None:
        self._ports = ports
        self._probe = probe
        self._held: set[int] = set()
        self._lock = threading.Lock()

    @contextlib.asynccontextmanager
    async def held(self, host: str, inside: Sequence[int]) -> AsyncIterator[dict[int, tuple[str, str]]]:
        """Port inside → (host, port or range) to publish it on; nobody else is given a port while the context lasts.

        Raises Unavailable when no free port is found: one is free again when a sandbox is gone.
        """
        taken: list[int] = []
        try:
            for _ in inside:
                taken.append(await asyncio.to_thread(self._take, host))
            yield {port: (host, self._spelled(number)) for port, number in zip(inside, taken, strict=True)}
        finally:
            self._held.difference_update(taken)

    def _spelled(self, port: int) -> str:
        return str(port) if self._probe.exact else f"{port}-{self._ports.stop - 1}"

    def _take(self, host: str) -> int:
        """On a thread: a full range of 20 000 takes some tenths of a second."""
        deadline = time.monotonic() + WALK_LIMIT
        for port in self._walk():
            with self._lock:
                if port in self._held:
                    continue
                self._held.add(port)
            if self._probe.is_free(host, port) or (not self._probe.exact and time.monotonic() > deadline):
                return port
            self._held.discard(port)
        span = f"{self._ports.start} to {self._ports.stop - 1}"
        raise no_port(f"No host port from {span} is free.")

    def _walk(self) -> Iterator[int]:
        first = random.randrange(len(self._ports))
        yield from self._ports[first:]
        yield from self._ports[:first]


def no_port(what: str) -> errors.Unavailable:
    """The answer to a create for which there is no port at present."""
    advice = "Try again when a sandbox is gone, or widen docker.port_range_min and docker.port_range_max."
    return errors.Unavailable(EXHAUSTED, f"{what} {advice}", retry_after=RETRY_SECONDS)


def probe_here() -> Probe:
    """For an Engine whose ports are this machine's."""
    return Probe(_can_be_bound, exact=True)


def probe_there(dials: Callable[[str], str]) -> Probe:
    """For an Engine elsewhere; `dials` tells where a port is dialled that is published on an address."""
    return Probe(lambda host, port: not _is_answered(dials(host), port), exact=False)


def _can_be_bound(host: str, port: int) -> bool:
    # Without SO_REUSEADDR: a port with a connection in TIME_WAIT is refused to the Engine's proxy now and then.
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _is_answered(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), ANSWER_LIMIT).close()
    except OSError:
        return False
    return True


def is_port_conflict(error: errors.ManagerError) -> bool:
    """Whether the Engine refused a start because a port is taken; it says so in words only."""
    text = error.message.lower()
    return any(
        fragment in text
        for fragment in (
            "port is already allocated",
            "all ports are allocated",
            "ports are not available",
            "address already in use",
        )
    )
