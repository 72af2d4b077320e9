"""Sizes, counts and times: each limit has its answer, and what is inside it passes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator

import pytest

from gateway.access.callers import TOLD
from gateway.limits import Limits
from gateway.table import SandboxRoute
from tests.conformance.address import SANDBOX, Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import LIMITS, World, running
from tests.conformance.wire import OK, PATIENCE, Message, Peer, Reply

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n\r\n"
BODY_LIMIT = 1000
LONG = LIMITS.stream_idle_timeout + 10


def code(answer: Message) -> tuple[int, str]:
    return answer.status, str(json.loads(answer.body)["code"])


def tight(**changes: float) -> Limits:
    return dataclasses.replace(LIMITS, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def small() -> AsyncIterator[World]:
    """A gateway that takes bodies of at most BODY_LIMIT bytes."""
    async with running(World(tight(max_body_bytes=BODY_LIMIT))) as made:
        yield made


# Sizes.


@in_each_form
@pytest.mark.parametrize(("surplus", "status"), [(0, 200), (1, 414)])
async def test_target(world: World, form: Form, surplus: int, status: int) -> None:
    """The whole target counts, the address in it included."""
    target = form.prefix + b"/" + b"x" * (LIMITS.max_url_bytes - len(form.prefix) - 1 + surplus)
    client = await world.connect()
    answer = await client.ask(form.write(b"GET %b HTTP/1.1\r\n{host}\r\n\r\n" % target))
    assert answer.status == status


@in_each_form
@pytest.mark.parametrize(("count", "status"), [(48, 200), (51, 431)])
async def test_number_of_headers(world: World, form: Form, count: int, status: int) -> None:
    """A head has at most so many lines."""
    client = await world.connect()
    lines = b"".join(b"H%d: x\r\n" % number for number in range(count))
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n" % lines))
    assert answer.status == status


@in_each_form
@pytest.mark.parametrize(("surplus", "status"), [(0, 200), (1, 431)])
async def test_size_of_the_head(world: World, form: Form, surplus: int, status: int) -> None:
    """A head has at most so many bytes, its last empty line included."""
    raw = form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nA: %b\r\n\r\n")
    client = await world.connect()
    answer = await client.ask(raw.replace(b"%b", b"x" * (LIMITS.max_head_bytes - len(raw) + 2 + surplus)))
    assert answer.status == status


@in_each_form
@pytest.mark.parametrize(
    "start", [b"GET {path}/", b"GET {path}/ HTTP/1.1\r\nA: ", b"GET {path}/ HTTP/1.1\r\n{host}\r\n" + b"A: b\r\n" * 100]
)
async def test_head_without_end(world: World, form: Form, start: bytes) -> None:
    """A head that grows without end is refused as soon as it is too large."""
    client = await world.connect()
    await client.send(form.write(start) + b"x" * LIMITS.max_head_bytes)
    answer = await client.message()
    assert answer.status in (414, 431)
    assert await client.until_end() == b""
    assert world.backend.connections == 0


@in_each_form
async def test_body_with_a_length(small: World, form: Form) -> None:
    """A body that is announced too large is refused before a byte of it is sent."""
    client = await small.connect()
    answer = await client.ask(form.write(POST % b"Content-Length: %d" % (BODY_LIMIT + 1)))
    assert code(answer) == (413, "GATEWAY::BODY_TOO_LARGE")
    assert await client.until_end() == b""
    assert small.backend.connections == 0


@in_each_form
async def test_body_that_grows(small: World, form: Form) -> None:
    """A chunked body that becomes too large is refused then, and never complete for the sandbox."""
    client = await small.connect()
    chunks = b"%x\r\n%b\r\n" % (600, b"x" * 600)
    answer = await client.ask(form.write(POST % b"Transfer-Encoding: chunked") + chunks * 2)
    assert answer.status == 413
    assert all(not message.complete for message in small.backend.seen)


@in_each_form
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_within_the_limit(small: World, form: Form, chunked: bool) -> None:
    """A body of exactly the limit passes."""
    body = b"x" * BODY_LIMIT
    line = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % BODY_LIMIT
    client = await small.connect()
    await client.send(form.write(POST % line) + (b"%x\r\n%b\r\n0\r\n\r\n" % (BODY_LIMIT, body) if chunked else body))
    assert (await client.message()).status == 200
    assert small.backend.seen[0].body == body


# Counts.


async def hold(peer: Peer) -> None:
    """Takes a request and answers it when the client goes away or the test ends."""
    await peer.message()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    await peer.until_end()


@in_each_form
async def test_exchanges_of_a_sandbox(form: Form) -> None:
    """Only so many requests are open on one sandbox; the next one is told to come back."""
    async with running(World(tight(max_sandbox_exchanges=2))) as world:
        world.backend.play = hold
        busy = [await world.connect() for _ in range(2)]
        for client in busy:
            await client.send(form.write(GET))
            await client.message(body=False)
        client = await world.connect()
        answer = await client.ask(form.write(GET))
        assert code(answer) == (429, "GATEWAY::TOO_MANY_REQUESTS")
        assert answer.one(b"retry-after") == b"1"


FULL = (503, "GATEWAY::TOO_MANY_CONNECTIONS")


async def test_connections() -> None:
    """Only so many clients are connected; the next one is told and closed."""
    async with running(World(tight(max_connections=2), trusted=["127.0.0.1"])) as world:
        clients = [await world.connect() for _ in range(3)]
        for client in clients[:2]:
            assert (await client.ask(Form.HOST.write(GET))).status == 200
        answer = await clients[2].message()
        assert code(answer) == FULL
        assert await clients[2].until_end() == b""


async def test_more_connections_than_are_told() -> None:
    """However many come beyond, few are kept open to be told; once there is room again everybody is served."""
    async with running(World(tight(max_connections=2), trusted=["127.0.0.1"])) as world:
        held = [await world.connect() for _ in range(2)]
        assert [(await client.ask(Form.HOST.write(GET))).status for client in held] == [200, 200]
        surplus = [await world.connect() for _ in range(3 * TOLD)]
        counters = world.gateway.counters
        await world.until(lambda: counters.connections_total == 2 + 3 * TOLD)
        assert counters.refusals == {"GATEWAY::TOO_MANY_CONNECTIONS": 3 * TOLD}
        await world.until(lambda: counters.connections == 2 + TOLD)
        assert [code(await client.message()) for client in surplus[:TOLD]] == [FULL] * TOLD
        await held.pop().close()
        await world.until(lambda: counters.connections == 1 + TOLD)
        assert (await (await world.connect()).ask(Form.HOST.write(GET))).status == 200


async def test_many_requests_on_one_connection(world: World) -> None:
    """A connection lives as long as its client likes."""
    client = await world.connect()
    raw = Form.HOST.write(GET)
    for _ in range(10):
        await client.send(raw * 1000)
        for _ in range(1000):
            assert await client.take(len(OK)) == OK
    assert world.backend.connections == 1


# Time.


@in_each_form
@pytest.mark.parametrize("part", [b"G", b"GET {path}/x HTTP/1.1\r\n", b"GET {path}/x HTTP/1.1\r\n{host}\r\nA: b\r\n"])
async def test_slow_head(world: World, form: Form, part: bytes) -> None:
    """A head that does not arrive whole in time is answered 408."""
    client = await world.connect()
    await client.send(form.write(part))
    await world.settled()
    world.pass_time(LIMITS.head_timeout + 2)
    assert code(await client.message()) == (408, "GATEWAY::HEAD_TIMEOUT")
    assert await client.until_end() == b""


@in_each_form
async def test_slow_second_head(world: World, form: Form) -> None:
    """The time runs from the first byte of each head, however its bytes trickle in."""
    client = await world.connect()
    await client.ask(form.write(GET))
    await client.send(b"GET /")
    await world.settled()
    world.pass_time(LIMITS.head_timeout / 2)
    await client.send(b"x")
    await world.settled()
    world.pass_time(LIMITS.head_timeout + 2)
    assert (await client.message()).status == 408


async def test_silent_client(world: World) -> None:
    """A client that never says anything is closed without an answer."""
    client = await world.connect()
    await world.settled()
    world.pass_time(LIMITS.keep_alive_timeout + 2)
    assert await client.until_end() == b""


@in_each_form
async def test_keep_alive(world: World, form: Form) -> None:
    """An idle connection is kept for longer than a minute, and then closed without an answer."""
    client = await world.connect()
    await client.ask(form.write(GET))
    world.pass_time(LIMITS.keep_alive_timeout - 5)
    assert (await client.ask(form.write(GET))).status == 200
    world.pass_time(2 * LIMITS.keep_alive_timeout)
    assert await client.until_end() == b""


@in_each_form
@pytest.mark.parametrize("chunked", [False, True])
async def test_slow_body(world: World, form: Form, chunked: bool) -> None:
    """A client that stops in the middle of a body is answered 408, and the sandbox never sees a whole request."""
    client = await world.connect()
    line = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 10"
    await client.send(form.write(POST % line) + (b"5\r\nhello\r\n" if chunked else b"hello"))
    await world.settled()
    world.pass_time(LIMITS.body_idle_timeout + 2)
    assert code(await client.message()) == (408, "GATEWAY::BODY_TIMEOUT")
    assert all(not message.complete for message in world.backend.seen)


@in_each_form
async def test_silent_sandbox(world: World, form: Form) -> None:
    """A sandbox that never answers ends in 504 after the idle limit."""
    asked = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.message()
        asked.set()
        await peer.until_end()

    world.backend.play = silent
    client = await world.connect()
    await client.send(form.write(GET))
    async with asyncio.timeout(PATIENCE):
        await asked.wait()
    world.pass_time(LONG)
    assert code(await client.message()) == (504, "BACKEND_TIMEOUT")


@in_each_form
async def test_silent_stream(world: World, form: Form) -> None:
    """A stream without a byte for the idle limit is cut, visibly."""
    world.backend.play = hold
    client = await world.connect()
    await client.send(form.write(GET))
    await client.message(body=False)
    world.pass_time(LONG)
    assert await client.until_end() == b""


# Speed of the two sides.

PLENTY = 32 * 1024 * 1024
PIECE = b"x" * 65536


@in_each_form
async def test_slow_reader(world: World, form: Form) -> None:
    """A client that does not read stops the sandbox; nothing piles up in between."""
    sent = 0

    async def pour(peer: Peer) -> None:
        nonlocal sent
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % PLENTY)
        while sent < PLENTY:
            await peer.send(PIECE)
            sent += len(PIECE)

    world.backend.play = pour
    client = await world.connect()
    await client.send(form.write(GET))
    await world.stands_still(lambda: sent)
    assert 0 < sent < PLENTY / 2
    await client.message(body=False)
    await client.skip(PLENTY)


@in_each_form
async def test_slow_sandbox(world: World, form: Form) -> None:
    """A sandbox that does not read stops the client; nothing piles up in between."""
    sent = 0
    read = asyncio.Event()

    async def later(peer: Peer) -> None:
        await read.wait()
        await peer.message(body=False)
        await peer.skip(PLENTY)
        await peer.send(OK)

    async def pour() -> None:
        nonlocal sent
        while sent < PLENTY:
            await client.send(PIECE)
            sent += len(PIECE)

    world.backend.play = later
    client = await world.connect()
    await client.send(form.write(POST % b"Content-Length: %d" % PLENTY))
    pouring = asyncio.create_task(pour())
    await world.stands_still(lambda: sent)
    assert 0 < sent < PLENTY / 2
    read.set()
    await pouring
    assert (await client.message()).status == 200


@in_each_form
async def test_client_that_resets_an_upload_that_stands_still(world: World, form: Form) -> None:
    """A client that is not read from, since the sandbox does not read either, is gone when it resets."""

    async def read_nothing(peer: Peer) -> None:
        await over.wait()

    async def pour() -> None:
        while True:
            await client.send(PIECE)

    over = asyncio.Event()
    world.backend.play = read_nothing
    client = await world.connect()
    await client.send(form.write(POST % b"Content-Length: %d" % PLENTY))
    pouring = asyncio.create_task(pour())
    await world.until(lambda: world.stuck() == 1)
    pouring.cancel()
    client.reset()
    await world.settled()
    world.pass_time(1)
    await world.until(lambda: not world.gateway._plane.clients)
    assert route_of(world).open == 0
    over.set()


def route_of(world: World) -> SandboxRoute:
    """The sandbox's route."""
    route = world.table.get(SANDBOX.encode())
    assert route is not None
    return route


def test_default_limits_of_the_suite() -> None:
    """The suite changes sizes for speed, never the times."""
    for name in ("head_timeout", "body_idle_timeout", "keep_alive_timeout", "stream_idle_timeout"):
        assert getattr(LIMITS, name) == getattr(Limits(), name)
    assert Limits().keep_alive_timeout > 60


@in_each_form
async def test_nothing_is_left_behind(world: World, form: Form) -> None:
    """After its clients have gone the gateway holds no exchange and no connection of theirs."""
    world.backend.replies = [Reply(), Reply(OK, close=True), Reply(b"", close=True), Reply(OK[:-1], close=True)]
    for _ in range(4):
        client = await world.connect()
        await client.send(form.write(GET))
        await client.message()
        await client.close()
    await world.until(lambda: world.gateway.counters.connections == 0)
    route = world.table.get(b"sb")
    assert route is not None
    assert route.live == set()
