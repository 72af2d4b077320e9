"""Host ports for publishing: searched from a random port of the configured range, reserved until the create is over.

The whole range is searched, so that a create succeeds as long as a port is free. Where the Engine's ports are this
machine's they are tested with bind(2). Elsewhere a port that accepts a connection is taken; after one that does not,
the Engine is given the range from there on, since an outgoing connection may use that port: it picks a free one.
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
from manager.runtime.docker.codes import SANDBOX_START_FAILED

RETRY_SECONDS = 10
"""`Retry-After` of a create for which no port was free."""
ANSWER_LIMIT = 1.0
"""Connect timeout in seconds for a port of another machine; one that times out may be free."""
WALK_LIMIT = 10.0
"""Seconds spent on such probes in all; after that the Engine finds out."""


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
        """Container port → (host, port or range) to publish it on; reserved while the context lasts.

        Raises Unavailable when no free port is found: one is free again when a sandbox is gone.
        """
        taken: list[int] = []
        try:
            for _ in inside:
                taken.append(await asyncio.to_thread(self._take, host))  # noqa: PERF401 - what was taken before a failure is released
            yield {port: (host, self._spelled(number)) for port, number in zip(inside, taken, strict=True)}
        finally:
            self._held.difference_update(taken)

    def _spelled(self, port: int) -> str:
        return str(port) if self._probe.exact else f"{port}-{self._ports.stop - 1}"

    def _take(self, host: str) -> int:
        """Runs on a thread: a full range of 20 000 takes some tenths of a second."""
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
    """The error for a create without a free port."""
    advice = "Try again when a sandbox is gone, or widen docker.port_range_min and docker.port_range_max."
    return errors.Unavailable(SANDBOX_START_FAILED, f"{what} {advice}", retry_after=RETRY_SECONDS)


def probe_here() -> Probe:
    """For an Engine whose ports are this machine's."""
    return Probe(_can_be_bound, exact=True)


def probe_there(dials: Callable[[str], str]) -> Probe:
    """For an Engine on another machine; `dials` maps a publish address to the address that is dialled."""
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
    """Whether the Engine refused a start because a port is taken; only the message tells it apart."""
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
