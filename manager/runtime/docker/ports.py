"""Host ports for publishing: picked at random in the configured range, held until the create that asked is over.

Where we cannot see which ports are free, because the Engine is on another machine or we are in a container, the Engine
is given what follows a port picked at random. It takes one that it has not given away itself; whether another program
uses it shows when the container starts, and then another random port is next.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence

from manager.domain import errors

EXHAUSTED = "DOCKER::SANDBOX_START_FAILED"
TRIES = 500
"""Ports tried before the range counts as full; at 20 000 ports of which half are taken the odds against are nil."""

LEFT_TO_THE_ENGINE = 40
"""Least number of ports it is given to choose from, where the range has as many."""


class Ports:
    """Allocates ports of one range."""

    def __init__(self, ports: range, *, probe: bool) -> None:
        """`probe` says whether the Engine's ports are this machine's, so that we can tell which are free."""
        self._ports = ports
        self._probe = probe
        self._held: set[int] = set()

    @contextlib.contextmanager
    def held(self, host: str, inside: Sequence[int]) -> Iterator[dict[int, tuple[str, str]]]:
        """Port inside → (host, port or range) to publish it on; nobody else is given a port while the context lasts.

        Raises Failed when no free port is found.
        """
        if not self._probe:
            first = random.choice(self._ports[: max(1, len(self._ports) - LEFT_TO_THE_ENGINE)])
            yield dict.fromkeys(inside, (host, f"{first}-{self._ports.stop - 1}"))
            return
        taken: list[int] = []
        try:
            for _ in inside:
                taken.append(self._take(host))
            yield {port: (host, str(number)) for port, number in zip(inside, taken, strict=True)}
        finally:
            self._held.difference_update(taken)

    def _take(self, host: str) -> int:
        for _ in range(TRIES):
            port = random.choice(self._ports)
            if port not in self._held and _free(host, port):
                self._held.add(port)
                return port
        span = f"{self._ports.start} to {self._ports.stop - 1}"
        raise errors.Failed(EXHAUSTED, f"No host port from {span} is free; widen docker.port_range_min and _max.")


def _free(host: str, port: int) -> bool:
    # Without SO_REUSEADDR: a port with a connection in TIME_WAIT is refused to the Engine's proxy now and then.
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
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
