"""Whatever a client or a sandbox sends, nobody else waits for it: the work in one turn of the loop has a bound.

Each case sends what is most work for one parser or splice, as much of it as fits, through a real gateway, while the
instructions that the program executes in each turn of the loop are counted (`work.Turns`). Without a bound per turn,
a single read of such input takes millions. What is quadratic within one instruction shows in the growth of
processor time when the input is doubled, which is four-fold then.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.limits import Limits
from gateway.table import Removal, RouteState
from tests.conformance.address import SANDBOX, Form
from tests.conformance.harness import World, running
from tests.conformance.hostile import FROM_CLIENTS, HEAD, LAST, LONG, NOBODY, POST, fill, lines
from tests.conformance.wire import PATIENCE, Client, Peer
from tests.conformance.work import Turns, seconds
from tests.gateway import harness as memory

MOST = 200_000
"""Instructions in one turn of the loop: some 5 ms, of the 10 ms that nobody may exceed."""
FACTOR = 3.0
"""Twice the input takes twice the time; where it takes four times as long something is done again and again."""
READ = 256_000
"""What uvloop reads at a time."""

UPGRADE = b"GET {path}/ws HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
KEY = b"\r\nOPEN-SANDBOX-API-KEY: ours\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(head: bytes) -> bytes:
    """An answer without a body, with this head."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n\r\n" % head


async def swallow(peer: Peer) -> None:
    """A sandbox that answers whenever what it has read ends like a request."""
    while data := await peer._more():
        if data.endswith(b"\r\n\r\n"):
            await peer.send(EMPTY)


def saying(data: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A sandbox that sends these bytes for an answer, and ends."""

    async def play(peer: Peer) -> None:
        await peer._more()
        await peer.send(data)

    return play


@pytest.fixture(params=["plain", "tls"])
async def wide(request: pytest.FixtureRequest, serves: ssl.SSLContext, trust: ssl.SSLContext) -> AsyncIterator[World]:
    """A gateway with the limits that are the default."""
    limits, tls = Limits(connect_budget=0.0), request.param == "tls"
    async with running(World(limits, tls=serves, trust=trust) if tls else World(limits)) as made:
        made.backend.play = swallow
        yield made


async def drink(client: Client) -> None:
    """Reads everything the gateway answers, until it closes."""
    async with asyncio.timeout(4 * PATIENCE):
        while await client._more():
            pass


async def work_of(world: World, data: bytes, *, last: bytes = LAST) -> Turns:
    """What the gateway does with these bytes, until it has read them all and has closed; then others are served."""
    client = await world.connect()
    with Turns() as turns:
        drinking = asyncio.ensure_future(drink(client))
        await client.send(data + last)
        await drinking
    world.backend.play = swallow
    await world.settled()
    return turns


@pytest.mark.parametrize("name", FROM_CLIENTS)
@pytest.mark.parametrize("form", [Form.HEADER, Form.URI])
async def test_what_a_client_sends(wide: World, name: str, form: Form) -> None:
    """Heads, bodies, trailers and pipelines."""
    turns = await work_of(wide, form.write(FROM_CLIENTS[name]))
    assert 0 < turns.longest < MOST


FROM_SANDBOXES = {
    "1-byte chunks": CHUNKED + fill(b"1\r\nx\r\n") + b"0\r\n\r\n",
    "extensions": CHUNKED + fill(b"1;a=b;c=d\r\nx\r\n") + b"0\r\n\r\n",
    "trailers": CHUNKED + b"0\r\n" + fill(b"a:\r\n", 16_000) + b"\r\n",
    "an event stream": CHUNKED + fill(b"f\r\ndata: something\r\n\r\n") + b"0\r\n\r\n",
    "interim answers": (b"HTTP/1.1 103 Early Hints\r\n" + lines(900, b"Link: </a>") + b"\r\n") * 16 + EMPTY,
    "lines": answer(lines(16_000, b"a:")[:-2]),
    "fewer lines": answer(lines(990, b"a:")[:-2]),
    "lines named by Connection": answer(lines(900, b"a:") + b"Connection: a"),
    "names in Connection": answer(b"Connection: " + fill(b"a,", LONG)),
    "Refresh": answer(b"Refresh: " + fill(b"1", LONG)),
    "Refresh with blanks": answer(b"Refresh: 1" + fill(b" ", LONG) + b"x"),
    "Location": answer(b"Location: " + fill(b"/", LONG)),
    "Set-Cookie": answer(b"Set-Cookie: a=b" + fill(b";", LONG)),
    "paths of a cookie": answer(b"Set-Cookie: a=b" + fill(b";path=/", LONG)),
    "cookies": answer(lines(900, b"Set-Cookie: a=b; Path=/; Domain=x; Secure")[:-2]),
    "Link": answer(b"Link: " + fill(b"<>", LONG)),
}


@pytest.mark.parametrize("name", FROM_SANDBOXES)
@pytest.mark.parametrize("form", [Form.HEADER, Form.URI])
async def test_what_a_sandbox_answers(wide: World, name: str, form: Form) -> None:
    """Heads, interim answers, bodies and trailers, and what is rewritten under a prefix."""
    wide.backend.play = saying(FROM_SANDBOXES[name])
    turns = await work_of(wide, form.write(HEAD % b"Connection: close"), last=b"")
    assert 0 < turns.longest < MOST


@pytest.mark.parametrize("frame", [b"\x82\x00", b"\x82\x01x", b"\x82\x7e\x00\x01x"])
async def test_frames(wide: World, frame: bytes) -> None:
    """WebSocket frames, which are counted on their way to the client."""
    data = fill(frame) + b"\x88\x00"
    wide.backend.play = saying(SWITCH + data)
    client = await wide.connect()
    with Turns() as turns:
        await client.send(Form.HEADER.write(UPGRADE))
        assert (await client.until_end()).endswith(data)
    assert 0 < turns.longest < MOST


@pytest.mark.parametrize("preface", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN" + fill(b" 1.1.1.1"), b"\r\n" * 50_000])
async def test_proxy_preface(preface: bytes) -> None:
    """What stands before the first request of a connection that a proxy passes on."""
    async with running(World(Limits(), trusted=["127.0.0.0/8"], proxy_protocol=True)) as world:
        client = await world.connect()
        with Turns() as turns:
            drinking = asyncio.ensure_future(drink(client))
            await client.send(preface + NOBODY % b"" * 500)
            client.finish()
            await drinking
        assert 0 < turns.longest < MOST


async def test_a_chain_of_trusted_proxies(trusting: World) -> None:
    """A client behind one may write thousands of others in front of its own address."""
    trusting.backend.play = swallow
    chain = b", ".join(b"127.0.%d.%d" % divmod(number, 200) for number in range(600))
    turns = await work_of(trusting, Form.HEADER.write(HEAD % (b"X-Forwarded-For: " + chain)))
    assert 0 < turns.longest < MOST


async def test_many_clients_at_once(wide: World) -> None:
    """The bound is that of all together: those with much to be worked on wait for each other."""
    data = Form.HEADER.write(POST) + fill(b"1\r\nx\r\n", 12_000)
    route = wide.table.get(SANDBOX.encode())
    assert route is not None
    clients = [await wide.connect() for _ in range(16)]
    with Turns() as turns:
        for client in clients:
            await client.send(data)
        await wide.until(lambda: sum(exchange.bytes_in for exchange in route.live) == 16 * 2000)
    assert 0 < turns.longest < MOST


# Ends: all that is open on sandboxes, or was let in by a key, may end at once.

CROWD = 300
ENDS: dict[str, Callable[[World], object]] = {
    "deleted": lambda world: world.table.remove(SANDBOX, Removal.DELETED),
    "paused": lambda world: world.put(state=RouteState.PAUSED),
    "keys": lambda world: world.gateway.set_own_keys([b"another"], [b"another"]),
    "drained": lambda world: asyncio.ensure_future(world.gateway.drain(PATIENCE)),
}


@pytest.mark.parametrize("event", ENDS)
async def test_a_crowd_that_ends(event: str) -> None:
    """Everybody is told, a few in each turn of the loop."""

    async def switch(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(SWITCH)
        await peer.until_end()

    async with running(World(Limits(), proxy_needs_key=True)) as world:
        world.backend.play = switch
        world.gateway.set_own_keys([b"ours"], [b"ours"])
        clients = [await world.connect() for _ in range(CROWD)]
        for client in clients:
            await client.send(Form.PROXY.write(UPGRADE).replace(b"\r\n\r\n", KEY))
        await world.until(lambda: world.gateway.counters.tunnels == CROWD)
        with Turns() as turns:
            ENDS[event](world)
            await asyncio.sleep(0)
            assert world.gateway.counters.tunnels > CROWD / 2
            await world.until(lambda: world.gateway.counters.tunnels == 0)
        assert 0 < turns.longest < MOST / 2
        assert [b"\x88" in await client.until_end() for client in clients] == [True] * CROWD


# Bulk: how much is read of one connection in a turn of the loop.


def bulk() -> list[bytes]:
    """As much as uvloop reads of one socket in one turn."""
    return [bytes(READ)] * 32


async def at_rest(wire: memory.Wire, count: Callable[[], int]) -> int:
    """How many bytes had passed when the gateway stopped reading; waits until all have."""
    first = count()
    async with asyncio.timeout(PATIENCE):
        while count() < 32 * READ:
            await asyncio.sleep(0)
            wire.settle()
    return first


async def test_bulk_upload() -> None:
    """One read of a body, then others have their turn."""
    world = memory.World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(b"POST /x HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (memory.ADDRESS, 32 * READ))
    sandbox.take()
    client.arrive(*bulk())
    assert await at_rest(client, lambda: len(sandbox.sent)) <= READ


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 * READ),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (32 * READ),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["length", "chunked", "until close"],
)
async def test_bulk_download(head: bytes) -> None:
    """Likewise of an answer."""
    world = memory.World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(b"GET /x HTTP/1.1\r\nHost: x\r\n%b\r\n" % memory.ADDRESS)
    sandbox.arrive(head)
    client.take()
    sandbox.arrive(*bulk())
    assert await at_rest(sandbox, lambda: len(client.sent)) <= READ + 16


@pytest.mark.parametrize("upload", [True, False])
async def test_bulk_in_a_tunnel(upload: bool) -> None:
    """Likewise of either side of a tunnel."""
    world = memory.World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(b"GET /x HTTP/1.1\r\nHost: x\r\n%bConnection: Upgrade\r\nUpgrade: raw\r\n\r\n" % memory.ADDRESS)
    sandbox.arrive(SWITCH.replace(b"websocket", b"raw"))
    sandbox.take()
    client.take()
    source, target = (client, sandbox) if upload else (sandbox, client)
    source.arrive(*bulk())
    assert await at_rest(source, lambda: len(target.sent)) <= READ


async def test_bulk_streams_take_turns() -> None:
    """Of many streams at full speed a few are read in each turn of the loop."""
    world = memory.World()
    pairs = []
    for _ in range(20):
        sandbox, client = world.stock(), world.connect()
        client.arrive(b"POST /x HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (memory.ADDRESS, 32 * READ))
        client.arrive(*bulk())
        pairs.append((client, sandbox))
    passed = sum(len(sandbox.sent) for _, sandbox in pairs)
    await asyncio.sleep(0)
    for client, _ in pairs:
        client.settle()
    assert 0 < sum(len(sandbox.sent) for _, sandbox in pairs) - passed <= 4 * READ


# Long heads: many can be complete in the same turn of the loop.

LONG_LINES = b"%b\r\n" % lines(100, b"a: " + b"x" * 300)


async def take_turns(wires: list[memory.Wire]) -> None:
    """A few of these have been sent something in each turn, and all of them in the end."""
    assert not any(wire.sent for wire in wires)
    answered = 0
    for _ in range(len(wires) // 4):
        await asyncio.sleep(0)
        now = sum(bool(wire.sent) for wire in wires)
        assert 0 < now - answered <= 4
        answered = now
    assert answered == len(wires)


@pytest.mark.parametrize("parts", [1, 30])
async def test_long_heads_take_turns(parts: int) -> None:
    """Of clients, whole or in packets."""
    world = memory.World()
    head = b"GET /x HTTP/1.1\r\nHost: x\r\n" + LONG_LINES
    clients = [world.connect() for _ in range(20)]
    step = -(-len(head) // parts)
    for client in clients:
        client.arrive(*(head[at : at + step] for at in range(0, len(head), step)))
    await take_turns(clients)


async def test_long_heads_in_a_pipeline() -> None:
    """One for each turn of the loop."""
    client = memory.World().connect()
    client.arrive((b"GET /x HTTP/1.1\r\nHost: x\r\n" + LONG_LINES) * 5)
    for count in range(5):
        assert client.sent.count(b"HTTP/1.1 404") == count
        await asyncio.sleep(0)
    assert client.sent.count(b"HTTP/1.1 404") == 5


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", b"HTTP/1.1 103 Early Hints\r\n"])
async def test_long_heads_of_answers_take_turns(start: bytes) -> None:
    """Of sandboxes."""
    world = memory.World()
    pairs = [(world.stock(), world.connect()) for _ in range(20)]
    for _, client in pairs:
        client.arrive(b"GET /x HTTP/1.1\r\nHost: x\r\n%b\r\n" % memory.ADDRESS)
    for sandbox, _ in pairs:
        sandbox.arrive(start + LONG_LINES)
    await take_turns([client for _, client in pairs])


async def test_a_long_head_is_not_late() -> None:
    """The clock that runs out while it waits for its turn is that of the silence before it."""
    world = memory.World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(b"GET /x HTTP/1.1\r\nHost: x\r\n%b\r\n" % memory.ADDRESS)
    sandbox.arrive(EMPTY)
    client.take()
    client.arrive(b"GET /x HTTP/1.1\r\nHost: x\r\n" + LONG_LINES)
    world.pass_time(world.plane.remembered_seconds + 1)
    assert not client.sent
    await asyncio.sleep(0)
    assert client.sent.startswith(b"HTTP/1.1 404")


# What is searched or copied again and again: growth of processor time.


def client_bytes(data: bytes, step: int) -> Callable[[], None]:
    """A client that sends these bytes in small packets."""

    def send() -> None:
        client = memory.World().connect()
        for at in range(0, len(data), step):
            client.arrive(data[at : at + step])

    return send


def sandbox_bytes(data: bytes, step: int) -> Callable[[], None]:
    """A sandbox that does."""

    def send() -> None:
        world = memory.World()
        sandbox, client = world.stock(), world.connect()
        client.arrive(b"GET /x HTTP/1.1\r\nHost: x\r\n%b\r\n" % memory.ADDRESS)
        for at in range(0, len(data), step):
            sandbox.arrive(data[at : at + step])

    return send


PACKETS = {
    "a head": (client_bytes, b"GET /x HTTP/1.1\r\nA: %b", 60_000, 8),
    "an answer's head": (sandbox_bytes, b"HTTP/1.1 200 OK\r\nA: %b", 60_000, 8),
    "trailers": (sandbox_bytes, CHUNKED + b"0\r\nA: %b", 16_000, 1),
}


@pytest.mark.parametrize("name", PACKETS)
async def test_small_packets(name: str) -> None:
    """What comes in small packets is not looked at again from its beginning with each of them."""
    send, start, size, step = PACKETS[name]
    once, twice = (seconds(send(start % (b"x" * length), step)) for length in (size // 2, size))
    assert twice < FACTOR * once
