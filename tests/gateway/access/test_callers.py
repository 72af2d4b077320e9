"""Counting by client address, in bounded memory; what a client meets is in the conformance suite."""

from __future__ import annotations

import pytest

from gateway.access.callers import REMEMBERED, Callers
from gateway.limits import Limits
from gateway.metrics import Counters


def callers(**limits: float) -> Callers:
    return Callers(Limits(**limits), Counters())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"192.0.2.1", b"192.0.2.1", True),
        (b"192.0.2.1", b"192.0.2.2", False),
        (b"2001:db8::1", b"2001:db8::ffff:1", True),
        (b"2001:db8::1", b"2001:db8:0:1::1", False),
        (b"::ffff:192.0.2.1", b"192.0.2.1", True),
        (b"no address", b"no address", True),
    ],
)
def test_who_counts_as_one(one: bytes, other: bytes, same: bool) -> None:
    """An IPv4 address, or the /64 of an IPv6 one, however it is written."""
    counted = callers()
    assert (counted.arrive(one) is counted.arrive(other)) is same


def test_forgotten_with_the_last_connection() -> None:
    """Of an address without a connection nothing is kept."""
    counters = Counters()
    counted = Callers(Limits(), counters)
    arrived = [counted.arrive(b"192.0.2.%d" % (number % 10)) for number in range(30)]
    assert (len(counted._callers), counters.client_addresses) == (10, 10)
    for caller in arrived:
        assert caller is not None
        counted.leave(caller)
    assert (len(counted._callers), counters.client_addresses) == (0, 0)


@pytest.mark.parametrize(
    ("everybody", "own", "most"), [(20000, 0, 10000), (20000, 500, 500), (4, 0, 2), (1, 0, 1), (200, 200, 200)]
)
def test_most_connections(everybody: int, own: int, most: int) -> None:
    """Half of all unless another number is given, and at least one."""
    assert callers(max_connections=everybody, max_client_connections=own).most_connections == most


def test_no_more_than_that() -> None:
    """The next is nobody's, and what ends makes room."""
    counted = callers(max_client_connections=2)
    first, second, third = (counted.arrive(b"192.0.2.1") for _ in range(3))
    assert first is second
    assert first is not None
    assert third is None
    counted.leave(first)
    assert counted.arrive(b"192.0.2.1") is first


def test_requests_in_bounded_memory() -> None:
    """Only so many addresses are remembered for what they have asked, the last ones."""
    counted = callers(client_requests_per_second=1.0)
    for number in range(REMEMBERED + 1000):
        assert counted.ask(b"10.%d.%d.1" % divmod(number, 256), 0.0) == 0.0
    assert counted._requests is not None
    assert len(counted._requests) == REMEMBERED
    assert counted.ask(b"10.%d.%d.1" % divmod(REMEMBERED + 999, 256), 0.0) > 0.0


def test_slow_rates() -> None:
    """Less than one request a second still lets one through at a time."""
    counted = callers(client_requests_per_second=0.1)
    assert [counted.ask(b"192.0.2.1", now) for now in (0.0, 0.0, 10.0)] == [0.0, 10.0, 0.0]
