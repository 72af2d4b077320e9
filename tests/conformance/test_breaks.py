"""Connections that end in the middle: by a FIN or a reset of either side, in every phase and behind every byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.address import PORT, SANDBOX, Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import World
from tests.conformance.wire import Client, Message, Peer, Reply

POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED_POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
WAYS: dict[str, Callable[[Client], None]] = {"fin": Client.finish, "reset": Client.reset}
by_either = pytest.mark.parametrize("way", list(WAYS))


def nothing_is_left(world: World) -> bool:
    """Whether no client and no exchange is left, and no connection but idle ones."""
    plane, route = world.gateway._plane, world.table.get(SANDBOX.encode())
    assert route is not None
    pool = route.pools.get(PORT)
    idle = 0 if pool is None else len(pool)
    counters = world.gateway.counters
    return not plane.clients and not route.live and counters.connections == 0 and world.connections() == idle


async def ask(world: World, raw: bytes) -> Message | None:
    """The answer of a new connection as far as it comes, or None when none does; the connection closes."""
    client = await world.connect()
    try:
        return await client.ask(raw)
    except ConnectionError:
        return None
    finally:
        await client.close()


@by_either
@pytest.mark.parametrize("raw", [POST, CHUNKED_POST], ids=["length", "chunked"])
async def test_client_at_every_byte(world: World, way: str, raw: bytes) -> None:
    """However much of a request has been sent when its client ends, nothing is left, and no part of it looks whole."""
    request = Form.HEADER.write(raw)
    for size in range(len(request) + 1):
        client = await world.connect()
        await client.send(request[:size])
        WAYS[way](client)
        if size < len(request):
            assert b" 200 " not in await client.until_end()
        await client.close()
    await world.until(lambda: nothing_is_left(world))
    # The whole one counts as gone as well, since nobody waits for its answer; it may have been answered before that.
    assert sum(message.complete for message in world.backend.seen) <= 1
    answer = await ask(world, request)
    assert (answer.status if answer else None) == 200


ANSWERS = family(
    "answers that break",
    [
        Case("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        Case("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
        Case("until the end", b"HTTP/1.1 200 OK\r\n\r\nhello"),
        Case("no body", b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
        Case("hint before it", b"HTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ],
)


@in_each_form
@every(ANSWERS)
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
async def test_sandbox_at_every_byte(world: World, form: Form, case: Case, reset: bool) -> None:
    """However much of an answer the sandbox sends before it ends: 502 up to its whole head, then a visible cut."""
    head = case.raw.index(b"\r\n\r\n", case.raw.index(b" 20")) + 4
    endless = case.name == "until the end"
    for size in range(len(case.raw) + 1):
        world.backend.reply = Reply(case.raw[:size], close=not reset, reset=reset)
        answer = await ask(world, form.write(GET))
        whole = size == len(case.raw) or (endless and size >= head)
        if size < head:
            assert answer is not None
            assert (answer.status, answer.complete) == (502, True), size
        elif endless and reset:
            assert answer is None or not answer.complete, size
        else:
            assert answer is not None
            assert (answer.status // 100, answer.complete) == (2, whole), size
    await world.until(lambda: nothing_is_left(world))


PHASES = family(
    "what a client has sent when it finishes",
    [
        Case("nothing", b""),
        Case("part of a head", b"GET {path}/x HTTP/1.1\r\n{host}\r\nX: "),
        Case("a head, body to come", POST[:-5]),
        Case("part of a body", POST[:-2]),
        Case("part of a chunk", CHUNKED_POST[:-9]),
        Case("a request", GET),
        Case("a request and part of another", GET + b"GET {path}/x HTT"),
        Case("two requests", GET + GET),
        Case("a handshake", GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ],
)


@in_each_form
@every(PHASES)
@by_either
async def test_client_in_every_phase(world: World, form: Form, case: Case, way: str) -> None:
    """A client that finishes sending before it has its answer has gone: both sides end, and it gets none."""

    async def read_on(peer: Peer) -> None:
        await peer.until_end()

    world.backend.play = read_on
    client = await world.connect()
    await client.send(form.write(case.raw))
    await world.settled()
    WAYS[way](client)
    await world.settled()
    world.pass_time(1)
    assert await client.until_end() == b""
    await client.close()
    await world.until(lambda: nothing_is_left(world) and world.backend.ended == world.backend.connections)


@in_each_form
@by_either
async def test_client_while_it_is_answered(world: World, form: Form, way: str) -> None:
    """A client that finishes in the middle of its answer has gone as well, and the sandbox hears of it."""

    async def go_on(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await peer.until_end()

    world.backend.play = go_on
    client = await world.connect()
    await client.send(form.write(GET))
    await client.message(body=False)
    WAYS[way](client)
    await client.until_end()
    await client.close()
    await world.until(lambda: nothing_is_left(world) and world.backend.ended == 1)


@in_each_form
@by_either
async def test_client_between_requests(world: World, form: Form, way: str) -> None:
    """An idle client may go as it likes; the sandbox's connection stays for the next one."""
    client = await world.connect()
    assert (await client.ask(form.write(GET))).status == 200
    WAYS[way](client)
    assert await client.until_end() == b""
    await client.close()
    await world.until(lambda: nothing_is_left(world))
    assert (await (await world.connect()).ask(form.write(GET))).status == 200
    assert world.backend.connections == 1


@in_each_form
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
@pytest.mark.parametrize("early", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["nothing", "interim"])
async def test_sandbox_during_an_upload(world: World, form: Form, reset: bool, early: bytes) -> None:
    """A sandbox that ends before it has all of an upload is 502 to a client that still sends."""

    async def leave(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(early)
        if reset:
            peer.reset()

    world.backend.play = leave
    client = await world.connect()
    await client.send(form.write(POST[:-3]))
    assert (await client.message()).status == 502
    await client.close()
    await world.until(lambda: nothing_is_left(world))


@in_each_form
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
async def test_sandbox_between_requests(world: World, form: Form, reset: bool) -> None:
    """A connection that the sandbox ends while it is idle is nobody's error."""
    world.backend.reply = Reply(close=not reset, reset=reset)
    client = await world.connect()
    for _ in range(3):
        assert (await client.ask(form.write(GET))).status == 200
    await client.close()
    await world.until(lambda: world.backend.ended == world.backend.connections and nothing_is_left(world))
