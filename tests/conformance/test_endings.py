"""What becomes of open requests, streams and tunnels when their sandbox goes, or the gateway does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from gateway import signing
from gateway.access.credentials import Keyring
from gateway.table import Removal, RouteState
from tests.conformance.address import PORT, SANDBOX, Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import World, running
from tests.conformance.sockets import Sockets
from tests.conformance.wire import OK, PATIENCE, Client, Message, Peer, Reply

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
UPGRADE = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
HALF_A_FRAME = b"\x82\x7e\x01\x00half"
CROWD = 200

REASONS = [
    (Removal.DELETED, 1001, "sandbox deleted", 410),
    (Removal.EXPIRED, 1001, "sandbox expired", 410),
    (Removal.STOPPED, 1001, "sandbox stopped", 409),
    (Removal.PAUSED, 1012, "sandbox paused", 409),
    (Removal.REPLACED, 1012, "sandbox restarted", 503),
    (Removal.REVOKED, 1001, "access revoked", 503),
]


async def keep_open(connection: ServerConnection) -> None:
    await connection.send("welcome")
    await connection.wait_closed()


async def close_of(client: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE):
        await client.wait_closed()
    return client.close_code or 0, client.close_reason or ""


async def after_switch(client: Client, raw: bytes) -> None:
    await client.send(raw)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.take(1)
    assert b" 101 " in head


@in_each_form
@pytest.mark.parametrize(("reason", "code", "text"), [row[:3] for row in REASONS])
async def test_websocket(sockets: Sockets, form: Form, reason: Removal, code: int, text: str) -> None:
    """An open WebSocket is told why it ends, with a code that says whether coming back helps."""
    await sockets.serve(keep_open)
    async with sockets.connect(form) as client:
        assert await client.recv() == "welcome"
        sockets.world.table.remove(SANDBOX, reason)
        assert await close_of(client) == (code, text)


@in_each_form
@pytest.mark.parametrize(("reason", "code", "text", "status"), REASONS)
async def test_requests_afterwards(
    world: World, form: Form, reason: Removal, code: int, text: str, status: int
) -> None:
    """The next request, on the same connection, hears the same reason."""
    client = await world.connect()
    await client.ask(form.write(GET))
    world.table.remove(SANDBOX, reason)
    assert (await client.ask(form.write(GET))).status == status
    assert len(world.backend.seen) == 1


@in_each_form
async def test_websocket_inside_a_frame(world: World, form: Form) -> None:
    """In the middle of a frame there is no room for a close frame: the connection is cut."""

    async def half(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(SWITCH % b"websocket" + HALF_A_FRAME)
        await peer.until_end()

    world.backend.play = half
    client = await world.connect()
    await after_switch(client, form.write(UPGRADE % b"websocket"))
    assert await client.take(len(HALF_A_FRAME)) == HALF_A_FRAME
    world.table.remove(SANDBOX, Removal.DELETED)
    assert await client.until_end() == b""


@in_each_form
async def test_other_tunnel(world: World, form: Form) -> None:
    """A tunnel of a protocol that we do not know is cut without a byte of ours in it."""

    async def tunnel(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(SWITCH % b"tcp" + b"hello")
        await peer.until_end()

    world.backend.play = tunnel
    client = await world.connect()
    await after_switch(client, form.write(UPGRADE % b"tcp"))
    assert await client.take(5) == b"hello"
    world.table.remove(SANDBOX, Removal.DELETED)
    assert await client.until_end() == b""


@in_each_form
@pytest.mark.parametrize(
    "head", [EVENT_STREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"], ids=["chunked", "length"]
)
async def test_stream(world: World, form: Form, head: bytes) -> None:
    """An answer under way is cut: without its last chunk, or short of its length."""

    async def begin(peer: Peer) -> None:
        await peer.message()
        await peer.send(head + b"data: 1\n\n")
        await peer.until_end()

    world.backend.play = begin
    client = await world.connect()
    await client.send(form.write(GET))
    assert (await client.message(body=False)).status == 200
    await client.take(9)
    world.table.remove(SANDBOX, Removal.EXPIRED)
    assert not (await client.until_end()).endswith(b"0\r\n\r\n")


@in_each_form
async def test_request_without_an_answer_yet(world: World, form: Form) -> None:
    """A request that waits for its answer is told what happened."""

    async def silent(peer: Peer) -> None:
        await peer.message()
        world.backend.step()
        await peer.until_end()

    world.backend.play = silent
    client = await world.connect()
    await client.send(form.write(GET))
    await world.backend.next_step()
    world.table.remove(SANDBOX, Removal.DELETED)
    assert (await client.message()).status == 410


@in_each_form
async def test_upload(world: World, form: Form) -> None:
    """An upload under way is answered and closed, and never completes for the sandbox."""
    client = await world.connect()
    await client.send(form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 1000\r\n\r\nhello"))
    await world.until(lambda: world.backend.connections == 1)
    world.table.remove(SANDBOX, Removal.DELETED)
    assert (await client.message()).status == 410
    assert all(not message.complete for message in world.backend.seen)


@in_each_form
@pytest.mark.parametrize(("state", "code"), [(RouteState.PAUSED, 1012), (RouteState.STOPPED, 1001)])
async def test_state(sockets: Sockets, form: Form, state: RouteState, code: int) -> None:
    """A pause or a crash ends what is open as well."""
    await sockets.serve(keep_open)
    async with sockets.connect(form) as client:
        await client.recv()
        sockets.world.put(state=state)
        assert (await close_of(client))[0] == code


@in_each_form
async def test_new_life(sockets: Sockets, form: Form) -> None:
    """When another container stands behind the id, what was open on the old one ends; requests reach the new one."""
    await sockets.serve(keep_open)
    async with sockets.connect(form) as client:
        await client.recv()
        sockets.world.put(uid="2")
        assert (await close_of(client))[0] == 1012
    second = await sockets.world.connect()
    assert (await second.ask(form.write(GET))).body == b"ok"


@in_each_form
async def test_idle_connections_do_not_outlive_a_life(world: World, form: Form) -> None:
    """A connection to the old container never carries a request for the new one, even on the same address."""
    client = await world.connect()
    await client.ask(form.write(GET))
    world.put(uid="2")
    await client.ask(form.write(GET))
    assert world.backend.connections == 2


async def test_same_life_keeps_its_connections(world: World) -> None:
    """An update of the same container disturbs nothing."""
    client = await world.connect()
    await client.ask(Form.HOST.write(GET))
    world.put(uid="1")
    await client.ask(Form.HOST.write(GET))
    assert world.backend.connections == 1


async def test_crowd(sockets: Sockets) -> None:
    """Everything open on a sandbox ends with it, and nothing else does."""
    await sockets.serve(keep_open)
    other = await sockets.world.connect()
    async with asyncio.TaskGroup() as group:
        opened = [group.create_task(open_one(sockets)) for _ in range(CROWD)]
    sockets.world.table.remove(SANDBOX, Removal.DELETED)
    async with asyncio.TaskGroup() as group:
        closes = [group.create_task(close_of(task.result())) for task in opened]
    assert {task.result() for task in closes} == {(1001, "sandbox deleted")}
    sockets.world.put("other")
    assert (await other.ask(Form.HOST.write(GET, id="other"))).body == b"ok"


async def open_one(sockets: Sockets) -> ClientConnection:
    client = await sockets.connect(Form.HOST)
    await client.recv()
    return client


# Keys that are taken away.

KEYS = {b"k": b"signing-secret", b"n": b"another-secret"}
TOKEN = b"correct-token"
FAR = 4_102_444_800
ROTATIONS = [
    ({b"n": b"another-secret"}, True),
    ({b"k": b"changed-secret", b"n": b"another-secret"}, True),
    ({}, True),
    (KEYS, False),
    ({b"k": b"signing-secret"}, False),
    ({**KEYS, b"x": b"one-more"}, False),
]


@pytest.fixture
async def signed() -> AsyncIterator[World]:
    """A gateway with two keys, and a sandbox that asks for a credential."""
    async with running(World(keys=KEYS)) as made:
        made.put(token=TOKEN)
        yield made


async def endless(peer: Peer) -> None:
    await peer.message()
    await peer.send(EVENT_STREAM + b"data: 1\n\n")
    await peer.until_end()


SIGNED_FORMS = pytest.mark.parametrize("form", [Form.HEADER, Form.HOST, Form.URI], ids=["header", "host", "uri"])
WELCOME = b"\x81\x02hi"


async def open_tunnel(world: World, raw: bytes) -> Client:
    """A WebSocket that has got one frame, as raw bytes."""

    async def greet(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(SWITCH % b"websocket" + WELCOME)
        await peer.until_end()

    world.backend.play = greet
    client = await world.connect()
    await after_switch(client, raw)
    assert await client.take(len(WELCOME)) == WELCOME
    return client


@SIGNED_FORMS
@pytest.mark.parametrize(("keys", "ends"), ROTATIONS)
@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
async def test_key_taken_away(signed: World, form: Form, keys: dict[bytes, bytes], ends: bool, long: bool) -> None:
    """A WebSocket that a removed or changed key has let in is told and ends; others go on."""
    sign = signing.sign_long if long else signing.sign
    signature = sign("k", KEYS[b"k"], SANDBOX, PORT, FAR)
    client = await open_tunnel(signed, form.write(UPGRADE % b"websocket", signed=signature))
    signed.gateway.set_keyring(Keyring(keys))
    if ends:
        assert await client.take(4) == b"\x88\x10\x03\xe9"
        assert await client.take(14) == b"access revoked"
    else:
        await signed.settled()
        assert signed.gateway.counters.tunnels == 1


@SIGNED_FORMS
async def test_signature_that_expires(signed: World, form: Form) -> None:
    """Nobody else is let in by it, and what is open goes on."""
    signature = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, int(time.time()) + 2)
    client = await open_tunnel(signed, form.write(UPGRADE % b"websocket", signed=signature))
    signed.backend.play = None
    others, raw = await signed.connect(), form.write(GET, signed=signature)
    async with asyncio.timeout(PATIENCE):
        while (await others.ask(raw)).status != 401:
            pass
    assert signed.gateway.counters.tunnels == 1
    client.finish()
    assert await client.until_end() == b""


@in_each_form
async def test_key_taken_away_from_others(signed: World, form: Form) -> None:
    """Who came in with the token stays."""
    raw = form.write(UPGRADE % b"websocket").replace(b"\r\n\r\n", b"\r\nOpenSandbox-Secure-Access: %b\r\n\r\n" % TOKEN)
    await open_tunnel(signed, raw)
    signed.gateway.set_keyring(Keyring())
    await signed.settled()
    assert signed.gateway.counters.tunnels == 1


@SIGNED_FORMS
async def test_key_taken_away_from_a_stream(signed: World, form: Form) -> None:
    """An answer under way is cut, and the next request is refused."""
    signature = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, FAR)
    signed.backend.play = endless
    client = await signed.connect()
    await client.send(form.write(GET, signed=signature))
    await client.message(body=False)
    signed.gateway.set_keyring(Keyring({b"n": KEYS[b"n"]}))
    assert not (await client.until_end()).endswith(b"0\r\n\r\n")
    again = await signed.connect()
    assert (await again.ask(form.write(GET, signed=signature))).status == 401


@in_each_form
async def test_key_taken_away_from_a_cookie(signed: World, form: Form) -> None:
    """A WebSocket that came in by the cookie of a signed link ends with the key as well."""
    signature = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, FAR)
    own_page = b"\r\nSec-Fetch-Site: same-origin"
    cookie = own_page + b"\r\nCookie: opensandbox-access-sb-8080=%b-%b\r\n\r\n" % (signature.expires, signature.value)
    client = await open_tunnel(signed, form.write(UPGRADE % b"websocket").replace(b"\r\n\r\n", cookie))
    signed.gateway.set_keyring(Keyring({b"n": KEYS[b"n"]}))
    assert await client.take(4) == b"\x88\x10\x03\xe9"


# A sandbox that dies: its sockets close before anybody has said why.


async def greet_and_die(peer: Peer) -> None:
    await peer.message(body=False)
    await peer.send(SWITCH % b"websocket" + WELCOME)
    await peer.take(1)
    peer.reset()


@in_each_form
async def test_death_of_the_sandbox(world: World, form: Form) -> None:
    """A WebSocket whose sandbox dies waits a moment for the reason, and is told it."""
    world.backend.play = greet_and_die
    client = await world.connect()
    await after_switch(client, form.write(UPGRADE % b"websocket"))
    await client.send(b"x")
    await world.until(lambda: world.backend.ended == 1)
    await world.settled()
    world.table.remove(SANDBOX, Removal.STOPPED)
    assert (await client.until_end()).startswith(WELCOME + b"\x88\x11\x03\xe9sandbox stopped")


@in_each_form
async def test_death_without_a_reason(world: World, form: Form) -> None:
    """When no reason comes the connection ends without a close frame, which is an abnormal end."""
    world.backend.play = greet_and_die
    client = await world.connect()
    await after_switch(client, form.write(UPGRADE % b"websocket"))
    await client.send(b"x")
    assert await client.until_end() == WELCOME


# The gateway's own end.


@in_each_form
async def test_drain_finishes_answers(world: World, form: Form) -> None:
    """An answer under way is finished, announces the end, and then the connection closes."""

    async def answer_late(peer: Peer) -> None:
        await peer.message()
        world.backend.step()
        await world.backend.next_turn()
        await peer.send(OK)

    world.backend.play = answer_late
    client = await world.connect()
    await client.send(form.write(GET))
    await world.backend.next_step()
    draining = asyncio.create_task(world.gateway.drain(PATIENCE))
    await world.until(lambda: world.gateway.draining)
    world.backend.turn()
    answer: Message = await client.message()
    assert (answer.body, answer.one(b"connection")) == (b"ok", b"close")
    assert await client.until_end() == b""
    await client.close()
    await draining


@in_each_form
async def test_drain_finishes_streams(world: World, form: Form) -> None:
    """A stream that ends within the time is complete."""

    async def stream(peer: Peer) -> None:
        await peer.message()
        await peer.send(EVENT_STREAM + b"data: 1\n\n")
        await world.backend.next_turn()
        await peer.send(b"data: 2\n\n")

    world.backend.play = stream
    client = await world.connect()
    await client.send(form.write(GET))
    assert (await client.message(body=False)).status == 200
    draining = asyncio.create_task(world.gateway.drain(PATIENCE))
    await world.until(lambda: world.gateway.draining)
    world.backend.turn()
    assert await client.until_end() == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"
    await client.close()
    await draining


@in_each_form
async def test_drain_closes_websockets(sockets: Sockets, form: Form) -> None:
    """An open WebSocket is told to come back."""
    await sockets.serve(keep_open)
    async with sockets.connect(form) as client:
        await client.recv()
        draining = asyncio.create_task(sockets.world.gateway.drain(PATIENCE))
        assert (await close_of(client))[0] == 1001
    await draining


async def test_drain_closes_idle_connections(world: World) -> None:
    """A connection without a request closes at once, and nobody new comes in."""
    client = await world.connect()
    await client.ask(Form.HOST.write(GET))
    await world.gateway.drain(PATIENCE)
    assert await client.until_end() == b""
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(world.port)


async def test_drain_cuts_what_is_left(world: World) -> None:
    """What lasts longer than the time it is given is cut, visibly."""
    world.backend.play = endless
    client = await world.connect()
    await client.send(Form.HOST.write(GET))
    await client.message(body=False)
    await world.gateway.drain(0.0)
    assert not (await client.until_end()).endswith(b"0\r\n\r\n")


@in_each_form
async def test_request_during_drain(world: World, form: Form) -> None:
    """A pipelined request behind the one that is finished is not begun."""
    world.backend.reply = Reply(early=False)

    async def answer_late(peer: Peer) -> None:
        await peer.message()
        world.backend.step()
        await world.backend.next_turn()
        await peer.send(OK)

    world.backend.play = answer_late
    client = await world.connect()
    await client.send(form.write(GET) * 2)
    await world.backend.next_step()
    draining = asyncio.create_task(world.gateway.drain(PATIENCE))
    await world.until(lambda: world.gateway.draining)
    world.backend.turn()
    assert (await client.message()).body == b"ok"
    assert await client.until_end() == b""
    await client.close()
    await draining
