"""The feed between processes: every message arrives as it was sent, in order, however its bytes are cut."""

from __future__ import annotations

import asyncio
import enum
import socket
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.access.credentials import AccessRule
from gateway.access.quotas import QuotaRules
from gateway.addressing.routing import RoutingConfig
from gateway.limits import Limits
from gateway.metrics import Counters
from gateway.options import GatewayOptions
from gateway.table import Removal, Resolution, RouteState
from gateway.upstream.host_rules import HostRules
from gateway.upstream.targets import Targets
from gateway.workers.channel import Channel
from gateway.workers.json_codec import from_plain, to_plain
from gateway.workers.messages import (
    Answer,
    Applied,
    Ask,
    Drain,
    Gone,
    Loaded,
    LogLevel,
    LogLine,
    NewCertificate,
    Put,
    Secrets,
    Serving,
    Setup,
    Synced,
    decode,
    encode,
)
from gateway.workers.usage import ROUTES_AT_ONCE, Report, RouteUse
from tests.gateway.harness import Wire

EVERY_BYTE = bytes(range(256))
SETUP = Setup(
    addresses=(("127.0.0.1", 80), ("::1", 80)),
    backlog=5,
    certificate=("chain.pem", "key.pem"),
    options=GatewayOptions(
        routing=RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.test", api_hosts=frozenset({b"api.test"})),
        limits=Limits(max_connections=7, head_timeout=0.5),
        trusted_proxies=("10.0.0.0/8",),
        cors_origins=frozenset({b"https://app.test"}),
        access_log_sample=0.5,
        upstream_host=True,
    ),
    access_log_file=None,
    grace=2.5,
    log_level=20,
    processes=2,
)
PUT = Put(
    "abc",
    "uid",
    Targets("192.0.2.1", {80: ("127.0.0.1", 8080)}, ("127.0.0.1", 44772)),
    RouteState.PAUSED,
    AccessRule(EVERY_BYTE),
    wakes=True,
    keep_prefix=frozenset({80, 3000}),
    rules=QuotaRules(requests_per_second=1.5, ports=((80, 90),), methods=frozenset({b"GET"}), paths=(b"/a",)),
    hosts=HostRules({0: b"upstream", 80: b"localhost:8000"}, frozenset({80})),
)
COUNTED = Counters()
COUNTED.refused("SOME::CODE")
REPORT = Report((RouteUse("abc", "uid", 12.5, 1, 2, 3, 4),), 5, 6, COUNTED.snapshot())
MESSAGES = [
    SETUP,
    Secrets({b"k": EVERY_BYTE}, frozenset({b"key", b"look"}), frozenset({b"key"})),
    PUT,
    Gone("abc", Removal.EXPIRED),
    Synced(True),
    Loaded(),
    Answer(Ask("abc", wake=False), Resolution.NOT_FOUND),
    NewCertificate(),
    LogLevel(30),
    Drain(1.5),
    Serving(),
    Applied(3),
    Ask("abc", wake=True),
    LogLine(40, "gateway", "first line\nsecond line"),
    REPORT,
]
DEADLINE = 5.0


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_round_trip(message: Any) -> None:
    """A message is one line, and is the same behind it."""
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_route_round_trip() -> None:
    """A route is told with everything the manager says of it."""
    assert Put.of(decode(encode(PUT)).route()) == PUT


def test_no_secret_in_a_trace() -> None:
    """Neither keys nor tokens show when a message does."""
    shown = repr([Secrets({b"k": b"hush"}, frozenset({b"hush"})), replace(PUT, access=_HUSH)])
    assert "hush" not in shown


_HUSH = AccessRule(b"hush")


class Colour(enum.Enum):
    """A value with a name."""

    RED = "red"


@dataclass(frozen=True)
class Nested:
    """One of everything a record may hold."""

    numbers: dict[int, tuple[str, int]]
    names: frozenset[bytes]
    colour: Colour | None
    many: tuple[tuple[str, ...], ...]


def test_records_by_their_hints() -> None:
    """A field is carried over by its type hint alone."""
    value = Nested({1: ("a", 2)}, frozenset({b"\xff"}), Colour.RED, (("x",), ()))
    assert from_plain(Nested, to_plain(value)) == value


@dataclass(frozen=True)
class Odd:
    """A field that has no form in JSON."""

    stream: object


def test_unknown_hints_are_refused() -> None:
    """What cannot be carried over is an error where it is sent, not a guess."""
    with pytest.raises(TypeError, match="has no form in JSON"):
        to_plain(Odd(object()))


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_lines_cut_anywhere(size: int) -> None:
    """Messages are told apart whatever the reads look like."""
    taken: list[Any] = []
    channel = Channel(taken.append, lambda: None)
    stream = b"".join(map(encode, MESSAGES))
    for at in range(0, len(stream), size):
        channel.data_received(stream[at : at + size])
    assert taken == MESSAGES
    assert channel.taken == len(MESSAGES)


@pytest.mark.parametrize("ends", [False, True])
async def test_many_messages_in_one_read(ends: bool) -> None:
    """A few are taken in each turn of the loop, all of them in order, also when the other end has gone meanwhile."""
    taken: list[Any] = []
    channel, wire = Channel(taken.append, lambda: taken.append(None)), Wire()
    wire.attach(channel)
    wire.arrive(b"".join(map(encode, MESSAGES * 50)))
    assert 0 < len(taken) < 100
    assert not wire.reading
    if ends:
        wire.lose()
    while len(taken) < len(MESSAGES) * 50 + ends:  # noqa: ASYNC110 - what is taken has no event
        await asyncio.sleep(0)
    assert wire.reading is not ends
    assert taken == MESSAGES * 50 + [None] * ends


async def test_long_messages_in_one_read() -> None:
    """Of those that take long to decode fewer are taken in each turn."""
    long = Report(tuple(RouteUse(f"a{number}", "u" * 100, 1.5, 1, 2, 3, 4) for number in range(ROUTES_AT_ONCE)))
    taken: list[Any] = []
    channel, wire = Channel(taken.append, lambda: None), Wire()
    wire.attach(channel)
    wire.arrive(encode(long) * 10)
    for count in range(1, 10):
        assert (len(taken), wire.reading) == (count, False)
        await asyncio.sleep(0)
    assert taken == [long] * 10


async def _pair() -> tuple[Channel, Channel, list[Any], asyncio.Event]:
    loop = asyncio.get_running_loop()
    taken: list[Any] = []
    lost = asyncio.Event()
    one, other = socket.socketpair()
    sender, receiver = Channel(taken.append, lost.set), Channel(taken.append, lost.set)
    await loop.create_connection(lambda: sender, sock=one)
    await loop.create_connection(lambda: receiver, sock=other)
    return sender, receiver, taken, lost


async def test_end_is_told() -> None:
    """What was sent before the end arrives before the end does."""
    sender, receiver, taken, lost = await _pair()
    sender.send(PUT)
    sender.close()
    async with asyncio.timeout(DEADLINE):
        await lost.wait()
    assert taken == [PUT]
    receiver.close()


async def test_slow_reader_is_waited_for() -> None:
    """A long snapshot waits for the other end instead of piling up."""
    sender, receiver, taken, _ = await _pair()
    count, most = 0, 0
    async with asyncio.timeout(DEADLINE):
        while count < 3000:
            sender.send(REPORT)
            count += 1
            most = max(most, sender.backlog)
            if count % 10 == 0:
                await sender.writable()
        while len(taken) < count:  # noqa: ASYNC110 - what has arrived has no event
            await asyncio.sleep(0)
    assert most < 1 << 20
    sender.close()
    receiver.close()
