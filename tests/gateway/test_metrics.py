"""The counters: what an exchange adds to them, and that nothing a client chooses makes them grow."""

from __future__ import annotations

import pytest

from gateway.errors import every_error
from gateway.metrics import ABORTED, CLASSES, FORMS, Counters
from tests.gateway.harness import ADDRESS, Wire, World

HEADER = b"GET /x HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"\r\n"
HOST = b"GET /x HTTP/1.1\r\nHost: abc-80.sandbox.test\r\n\r\n"
PROXY = b"GET /sandboxes/abc/proxy/80/x HTTP/1.1\r\nHost: x\r\n\r\n"
URI = b"GET /abc/80/x HTTP/1.1\r\nHost: x\r\n\r\n"
UNROUTED = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
MALFORMED = b"GET /x HTTP/1.1\r\nHost : x\r\n\r\n"
ANSWER = b"HTTP/1.1 %b X\r\nContent-Length: 3\r\n\r\nyes"


def asked(raw: bytes) -> tuple[World, Wire, Wire]:
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(raw)
    return world, client, sandbox


def filled(counters: Counters) -> dict[tuple[str, str], int]:
    """The cells of the table that are not zero."""
    rows = zip(FORMS, counters.responses, strict=True)
    return {(form, CLASSES[at]): count for form, row in rows for at, count in enumerate(row) if count}


@pytest.mark.parametrize(("form", "raw"), [("header", HEADER), ("host", HOST), ("proxy", PROXY), ("uri", URI)])
@pytest.mark.parametrize("status", [b"200", b"302", b"404", b"503"])
def test_one_answer_one_count(form: str, raw: bytes, status: bytes) -> None:
    """Each answer counts once, under the way of addressing and the class of its status."""
    world, _, sandbox = asked(raw)
    sandbox.arrive(ANSWER % status)
    counters = world.plane.counters
    assert filled(counters) == {(form, f"{status.decode()[0]}xx"): 1}
    assert (sum(counters.durations), counters.pool_hits, world.route.requests) == (1, 1, 1)


@pytest.mark.parametrize(("raw", "code"), [(UNROUTED, "SANDBOX_NOT_FOUND"), (MALFORMED, "BAD_REQUEST")])
def test_refusals(raw: bytes, code: str) -> None:
    """An answer of our own counts under its code."""
    world, _, _ = asked(raw)
    assert world.plane.counters.refusals == {f"GATEWAY::{code}": 1}


def test_aborted() -> None:
    """An answer that did not arrive whole is no success."""
    world, client, sandbox = asked(HEADER)
    sandbox.arrive((ANSWER % b"200")[:-1])
    client.lose(ConnectionResetError())
    assert filled(world.plane.counters) == {("header", CLASSES[ABORTED]): 1}


def test_bytes() -> None:
    """Body bytes of both directions are in the books of the route, and stay when it goes."""
    world, _, sandbox = asked(
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + ADDRESS + b"\r\nhello",
    )
    sandbox.arrive(ANSWER % b"200")
    assert (world.route.bytes_in, world.route.bytes_out) == (5, 3)


def test_connections() -> None:
    """What is open now goes down again; what has ever been does not."""
    world = World()
    wires = [world.connect() for _ in range(3)]
    counters = world.plane.counters
    assert (counters.connections, counters.connections_total) == (3, 3)
    for wire in wires:
        wire.lose()
    assert (counters.connections, counters.connections_total) == (0, 3)


def test_durations() -> None:
    """An exchange falls into the bucket of its duration: bucket n is below 2ⁿ microseconds."""
    world, _, sandbox = asked(HEADER)
    world.plane.deadlines.now += 3.0
    sandbox.arrive(ANSWER % b"200")
    bucket = world.plane.counters.durations.index(1)
    assert 2 ** (bucket - 1) <= 3_000_000 < 2**bucket


def test_labels_are_bounded() -> None:
    """Whatever clients send, only the codes of our own errors become names."""
    world = World()
    for number in range(200):
        client = world.connect()
        client.arrive(HEADER.replace(b"abc-80", b"id%d-80" % number))
        client.arrive(b"X%d / HTTP/1.1\r\nHost: x\r\n\r\n" % number)
    assert set(world.plane.counters.refusals) <= {error.code for error in every_error()}


def test_sums() -> None:
    """The counters of two processes make one table."""
    one, other = Counters(), Counters()
    one.responses[0][1], other.responses[0][1] = 2, 3
    one.refused("a")
    other.refused("a")
    other.refused("b")
    other.connections = 4
    one.add(other.snapshot())
    assert (one.responses[0][1], one.refusals, one.connections) == (5, {"a": 2, "b": 1}, 4)
