"""One client connection: requests in order, however they are cut, and every event in every phase.

The phases are those of the table at the top of `gateway/proxy/client_connection.py`. What is asserted of every pair of
phase and event: nothing is raised, nothing is sent that is not an answer, and no connection, exchange or route entry is
left behind once both sides are gone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, PortNotListening
from gateway.limits import Limits
from gateway.proxy.client_connection import Phase
from gateway.table import Removal, Resolution, RouteState
from tests.gateway.harness import ADDRESS, PATIENCE, Manager, Wire, World

HEADERS = b"Host: x\r\n" + ADDRESS
GET = b"GET /x HTTP/1.1\r\n" + HEADERS + b"\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HEADERS + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /x HTTP/1.1\r\n" + HEADERS + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\n" + HEADERS + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UNKNOWN = GET.replace(b"abc-80", b"nobody-80")
MALFORMED = b"GET /x HTTP/1.1\r\nHost : x\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] ")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Backend:
    """Answers each request once h11 says that it is whole; h11 raises for bytes that are no request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parsers: list[h11.Connection] = []
        self._target = self._body = b""
        self.seen: list[tuple[bytes, bytes]] = []

    def answer(self) -> bool:
        """Looks at what the sandbox got, on every connection; whether it answered anything."""
        answered = False
        for number, wire in enumerate(self._world.dialled):
            if number == len(self._parsers):
                self._parsers.append(h11.Connection(h11.SERVER))
            if wire.sent:
                self._parsers[number].receive_data(wire.take())
                answered = self._read(self._parsers[number], wire) or answered
        return answered

    def _read(self, parser: h11.Connection, wire: Wire) -> bool:
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Request):
                self._target, self._body = event.target, b""
            elif isinstance(event, h11.Data):
                self._body += event.data
        self.seen.append((self._target, self._body))
        parser.send(h11.Response(status_code=200, headers=[("content-length", "2")]))
        parser.send(h11.Data(data=b"ok"))
        parser.send(h11.EndOfMessage())
        parser.start_next_cycle()
        wire.arrive(OK)
        return True


def served(parts: list[bytes]) -> tuple[bytes, list[tuple[bytes, bytes]], bool]:
    """What the client got for these reads, what the backend saw, and whether the connection is still good."""
    world = World()
    world.stock(4)
    backend, client = Backend(world), world.connect()
    for part in parts:
        client.arrive(part)
        while backend.answer():
            client.settle()
    return client.take(), backend.seen, not (client.closing or client.ended)


requests = st.lists(st.sampled_from([GET, POST, CHUNKED, UNKNOWN, b"\r\n" + GET]), min_size=1, max_size=5)


@given(requests, st.sampled_from([b"", MALFORMED]), st.lists(st.integers(0, 2000), max_size=5))
def test_every_split(sequence: list[bytes], last: bytes, cuts: list[int]) -> None:
    """However a pipeline of requests is cut on its way, the backend sees the same, in order, and so does the client."""
    data = b"".join(sequence) + last
    places = sorted({cut % len(data) for cut in cuts})
    parts = [data[at:to] for at, to in zip([0, *places], [*places, len(data)], strict=True) if at < to]
    whole, split = served([data]), served(parts)
    assert without_ids(split[0]) == without_ids(whole[0])
    assert split[1:] == whole[1:]
    assert len(whole[1]) == sum(request is not UNKNOWN for request in sequence)
    assert len(STATUS_LINE.findall(whole[0])) == len(sequence) + bool(last)
    assert whole[2] is not bool(last)


def without_ids(answers: bytes) -> list[bytes]:
    return [line for line in answers.split(b"\r\n") if not line.startswith(b"X-Request-ID")]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_empty_lines_first(times: int) -> None:
    """Empty lines before a request are ignored, in one read or in several."""
    for parts in ([b"\r\n" * times + GET], [b"\r\n"] * times + [GET], [b"\r", b"\n"] * times + [GET]):
        assert served(parts)[1] == [(b"/x", b"")]


def test_pipelined_answers_in_order() -> None:
    """The next head is looked at only after the previous answer is complete."""
    world = World()
    sandbox, client = world.stock(2), world.connect()
    client.arrive(GET + GET.replace(b"/x", b"/y"))
    assert b"/y" not in sandbox.take()
    sandbox.arrive(OK)
    assert sandbox.take().startswith(b"GET /y ")


async def until_it_reads(client: Wire) -> None:
    """Returns once the gateway takes more of the client's bytes."""
    async with asyncio.timeout(PATIENCE):
        while not client.reading:  # noqa: ASYNC110 - a paused wire has no event
            await asyncio.sleep(0)


async def test_many_pipelined_refusals() -> None:
    """A batch of requests that are answered by ourselves is answered in order, a few in each turn of the loop."""
    world = World(Limits(max_head_bytes=1 << 20))
    client = world.connect()
    client.arrive(UNKNOWN * 3000)
    assert 0 < client.sent.count(b"HTTP/1.1 404") < 20
    assert not client.reading
    await until_it_reads(client)
    assert client.take().count(b"HTTP/1.1 404") == 3000


# Every event in every phase.


def at_head(world: World) -> Wire:
    return world.connect()


def at_part_of_a_head(world: World) -> Wire:
    client = world.connect()
    client.arrive(GET[:20])
    return client


def at_body(world: World) -> Wire:
    world.stock()
    client = world.connect()
    client.arrive(POST[:-2])
    return client


def at_await(world: World) -> Wire:
    world.stock()
    client = world.connect()
    client.arrive(GET)
    return client


def at_await_with_more(world: World) -> Wire:
    client = at_await(world)
    client.arrive(GET)
    return client


def at_answer(world: World) -> Wire:
    client = at_await(world)
    world.dialled[-1].arrive(OK[:-1])
    return client


def at_tunnel(world: World) -> Wire:
    world.stock()
    client = world.connect()
    client.arrive(UPGRADE)
    world.dialled[-1].arrive(SWITCH)
    return client


def at_half_tunnel(world: World) -> Wire:
    client = at_tunnel(world)
    world.dialled[-1].end()
    return client


def at_other_half_tunnel(world: World) -> Wire:
    client = at_tunnel(world)
    client.end()
    return client


def at_linger(world: World) -> Wire:
    client = world.connect()
    client.arrive(MALFORMED)
    return client


def at_closed(world: World) -> Wire:
    client = world.connect()
    world.plane.draining = True
    client.protocol.drain()
    return client


def at_dialling(world: World) -> Wire:
    world.slow_dial = asyncio.Event()
    client = world.connect()
    client.arrive(GET)
    return client


def at_dialling_with_body(world: World) -> Wire:
    world.slow_dial = asyncio.Event()
    client = world.connect()
    client.arrive(CHUNKED[:-7])
    return client


def at_resolving(world: World) -> Wire:
    client = world.connect()
    client.arrive(UNKNOWN + GET)
    return client


BEGINNINGS: dict[Callable[[World], Wire], Phase] = {
    at_head: Phase.HEAD,
    at_part_of_a_head: Phase.HEAD,
    at_body: Phase.BODY,
    at_await: Phase.AWAIT,
    at_await_with_more: Phase.AWAIT,
    at_answer: Phase.AWAIT,
    at_tunnel: Phase.TUNNEL,
    at_half_tunnel: Phase.TUNNEL,
    at_other_half_tunnel: Phase.TUNNEL,
    at_dialling: Phase.AWAIT,
    at_dialling_with_body: Phase.BODY,
    at_resolving: Phase.AWAIT,
    at_linger: Phase.LINGER,
    at_closed: Phase.CLOSED,
}


def sandbox_of(world: World) -> Wire:
    """The wire to the sandbox; a spare one where there is none yet."""
    return world.dialled[-1] if world.dialled else world.stock()


EVENTS: dict[str, Callable[[World, Wire], object]] = {
    "request": lambda world, client: client.arrive(GET),
    "garbage": lambda world, client: client.arrive(b"\x00\r\n\r\n"),
    "client ends": lambda world, client: client.end(),
    "client resets": lambda world, client: client.lose(ConnectionResetError()),
    "client slow": lambda world, client: client.lost or client.protocol.pause_writing(),
    "client ready": lambda world, client: client.lost or client.protocol.resume_writing(),
    "answer": lambda world, client: sandbox_of(world).arrive(OK),
    "switch": lambda world, client: sandbox_of(world).arrive(SWITCH),
    "bytes of the sandbox": lambda world, client: sandbox_of(world).arrive(b"\x00"),
    "sandbox ends": lambda world, client: sandbox_of(world).end(),
    "sandbox resets": lambda world, client: sandbox_of(world).lose(ConnectionResetError()),
    "sandbox slow": lambda world, client: sandbox_of(world).lost or sandbox_of(world).protocol.pause_writing(),
    "sandbox ready": lambda world, client: sandbox_of(world).lost or sandbox_of(world).protocol.resume_writing(),
    "sandbox deleted": lambda world, client: world.table.remove("abc", Removal.DELETED),
    "sandbox paused": lambda world, client: world.put(state=RouteState.PAUSED),
    "sandbox replaced": lambda world, client: world.put(uid="2"),
    "a minute": lambda world, client: world.pass_time(60),
    "a day": lambda world, client: world.pass_time(86_400),
    "drain": lambda world, client: drain(world),
    "rest of the body": lambda world, client: client.arrive(CHUNKED[-7:]),
    "connected": lambda world, client: connect(world),
    "not connected": lambda world, client: connect(world, PortNotListening()),
    "manager knows": lambda world, client: know(world, Resolution.NOT_FOUND),
    "manager cannot tell": lambda world, client: know(world, Resolution.UNAVAILABLE),
    "the loop turns": lambda world, client: settle(world, client),
}


def drain(world: World) -> None:
    world.plane.draining = True
    for client in list(world.plane.clients):
        client.drain()


def connect(world: World, refusing: GatewayError | None = None) -> None:
    world.refusing = refusing
    if world.slow_dial is not None:
        world.slow_dial.set()


class Asked(World):
    """A world whose manager answers when told to."""

    def __init__(self) -> None:
        self.resolution: asyncio.Future[Resolution] = asyncio.get_running_loop().create_future()
        super().__init__(Limits(stream_idle_timeout=3600), resolver=Manager(self._answer))

    async def _answer(self) -> Resolution:
        return await asyncio.shield(self.resolution)


def know(world: World, resolution: Resolution) -> None:
    if isinstance(world, Asked) and not world.resolution.done():
        world.resolution.set_result(resolution)


async def turn() -> None:
    """Lets everything run that is ready."""
    for _ in range(6):
        await asyncio.sleep(0)


def settle(world: World, *clients: Wire) -> None:
    for wire in (*clients, *world.dialled):
        if not wire.lost:
            wire.settle()


def check_all_is_over(world: World, client: Wire) -> None:
    """Both sides go away: nothing of them is left, and what was sent is nothing but answers."""
    client.lose()
    settle(world, client)
    for wire in world.dialled:
        wire.lose()
    assert not world.plane.clients
    assert not world.route.live
    assert not world.route.open
    counters = world.plane.counters
    assert (counters.connections, counters.tunnels) == (0, 0)
    sent = bytes(client.sent)
    assert sent == b"" or sent.startswith(b"HTTP/1.1 ")
    know(world, Resolution.NOT_FOUND)  # a question that nobody answers would be collected while pending, with a warning


async def begun(beginning: Callable[[World], Wire]) -> tuple[World, Wire]:
    world = Asked()
    client = beginning(world)
    await turn()
    return world, client


@pytest.mark.parametrize("beginning", BEGINNINGS, ids=lambda beginning: beginning.__name__)
async def test_phases(beginning: Callable[[World], Wire]) -> None:
    """The beginnings are what their names say."""
    _, client = await begun(beginning)
    assert client.protocol._phase is BEGINNINGS[beginning]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("beginning", BEGINNINGS, ids=lambda beginning: beginning.__name__)
async def test_every_event_in_every_phase(
    beginning: Callable[[World], Wire], event: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens whenever it happens, it does what the table says or no harm."""
    world, client = await begun(beginning)
    EVENTS[event](world, client)
    await turn()
    settle(world, client)
    check_all_is_over(world, client)
    await turn()
    assert not world.plane._tasks
    assert not caplog.records


@given(st.sampled_from(list(BEGINNINGS)), st.lists(st.sampled_from(list(EVENTS)), max_size=8))
async def test_any_sequence_of_events(beginning: Callable[[World], Wire], events: list[str]) -> None:
    """So it is with any sequence of them."""
    world, client = await begun(beginning)
    for event in events:
        EVENTS[event](world, client)
        await turn()
    settle(world, client)
    check_all_is_over(world, client)
    await turn()
    assert not world.plane._tasks


NEXT = [
    (at_head, "a day", Phase.CLOSED),
    (at_part_of_a_head, "a day", Phase.LINGER),
    (at_head, "garbage", Phase.LINGER),
    (at_head, "drain", Phase.CLOSED),
    (at_part_of_a_head, "drain", Phase.HEAD),
    (at_body, "answer", Phase.LINGER),
    (at_body, "a day", Phase.LINGER),
    (at_body, "sandbox deleted", Phase.LINGER),
    (at_await, "answer", Phase.HEAD),
    (at_await, "sandbox deleted", Phase.HEAD),
    (at_await, "sandbox paused", Phase.HEAD),
    (at_await, "sandbox resets", Phase.HEAD),
    (at_await, "drain", Phase.AWAIT),
    (at_await, "a minute", Phase.AWAIT),
    (at_answer, "sandbox resets", Phase.CLOSED),
    (at_answer, "sandbox deleted", Phase.CLOSED),
    (at_answer, "drain", Phase.AWAIT),
    (at_tunnel, "sandbox deleted", Phase.LINGER),
    (at_tunnel, "drain", Phase.LINGER),
    (at_tunnel, "sandbox resets", Phase.TUNNEL),
    (at_half_tunnel, "sandbox deleted", Phase.LINGER),
    (at_half_tunnel, "drain", Phase.LINGER),
    (at_tunnel, "a minute", Phase.TUNNEL),
    (at_dialling, "not connected", Phase.HEAD),
    (at_dialling, "connected", Phase.AWAIT),
    (at_dialling, "sandbox deleted", Phase.HEAD),
    (at_dialling_with_body, "not connected", Phase.LINGER),
    (at_dialling_with_body, "sandbox replaced", Phase.LINGER),
    (at_resolving, "manager knows", Phase.AWAIT),
    (at_linger, "request", Phase.LINGER),
    (at_closed, "request", Phase.CLOSED),
]


@pytest.mark.parametrize(
    ("beginning", "event", "phase"), NEXT, ids=[f"{begin.__name__}, {event}" for begin, event, _ in NEXT]
)
async def test_next_phase(beginning: Callable[[World], Wire], event: str, phase: Phase) -> None:
    """The moves that the table names."""
    world, client = await begun(beginning)
    EVENTS[event](world, client)
    await turn()
    assert client.protocol._phase is phase


# How it ends.


def test_slow_reader_gets_all_of_it() -> None:
    """A connection that is closing waits as long as its client still reads, and ends when it reads no more."""
    world = World()
    client = at_linger(world)
    for unsent in (50_000, 30_000, 1):
        client.unsent = unsent
        world.pass_time(world.limits.body_idle_timeout + 1)
        assert not client.aborted
    world.pass_time(world.limits.body_idle_timeout + 1)
    assert client.aborted


def test_nobody_lingers_for_long() -> None:
    """Once everything is sent, a client that does not close is not waited for."""
    world = World()
    client = at_linger(world)
    world.pass_time(5)
    assert client.aborted


def test_slow_head() -> None:
    """The time for a head runs from its first byte, however many parts it comes in (slowloris)."""
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET)
    sandbox.arrive(OK)
    client.take()
    for byte in GET[:40]:
        client.arrive(bytes([byte]))
        world.pass_time(1)
    assert client.take().startswith(b"HTTP/1.1 408 ")


def test_idle_client() -> None:
    """A client that says nothing is dropped without a word."""
    world = World()
    client = world.connect()
    world.pass_time(3600)
    assert (client.take(), client.closing) == (b"", True)


def test_too_many_connections() -> None:
    """One connection too many is answered, and the others go on."""
    world = World(Limits(max_connections=1))
    sandbox, first = world.stock(), world.connect()
    second = world.connect()
    assert second.take().startswith(b"HTTP/1.1 503 ")
    assert second.ended
    first.arrive(GET)
    sandbox.arrive(OK)
    assert first.take() == OK


def test_room_while_others_are_told() -> None:
    """Those that are open only until their clients know that there are too many are none of the many."""
    world = World(Limits(max_connections=1), trusted=["192.0.2.7"])
    first = world.connect()
    told = [world.connect() for _ in range(5)]
    assert all(client.ended for client in told)
    first.lose()
    assert not world.connect().ended
    assert world.connect().ended
    for client in told:
        client.lose()
    assert world.connect().ended
    assert world.plane.turned_away == 2


def test_drain_finishes_the_answer() -> None:
    """An answer under way is finished, said to be the last, and then the connection closes."""
    world = World()
    client = at_await(world)
    drain(world)
    world.dialled[-1].arrive(OK)
    assert b"Connection: close\r\n" in client.sent
    assert client.sent.endswith(b"ok")
    assert (client.closing, client.aborted) == (True, False)


MANY_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000
UPLOAD = CHUNKED[: -len(b"0\r\nX: y\r\n\r\n")]
LOST_WITH_BYTES = {
    "a body": (UPLOAD, MANY_CHUNKS, b"5\r\nhello\r\n"),
    "the end of a body": (UPLOAD, MANY_CHUNKS, b"0\r\n\r\n"),
    "a frame": (UPGRADE, SWITCH + b"\x82\x01x" * 20_000, b"\x82\x80aaaa"),
    "the end of a tunnel": (UPGRADE, SWITCH + b"\x82\x01x" * 20_000, b""),
}


@pytest.mark.parametrize("name", LOST_WITH_BYTES)
async def test_client_sends_on_while_the_last_bytes_of_a_lost_sandbox_wait(name: str) -> None:
    """What has come of a sandbox that is gone has its turns; what the client sends meanwhile is dropped."""
    request, answer, more = LOST_WITH_BYTES[name]
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(request)
    sandbox.arrive(answer)
    sandbox.lose(ConnectionResetError())
    passed = len(client.sent)
    if more:
        client.arrive(more)
    else:
        client.end()
    async with asyncio.timeout(PATIENCE):
        while not client.closing:
            await asyncio.sleep(0)
            world.pass_time(2)
    assert client.sent.count(b"x", passed) > 10_000 or not more
    client.settle()
    assert not world.route.live
    assert (world.plane.counters.connections, world.pool.connections) == (0, 0)


async def test_a_turn_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A connection whose put-off bytes cannot be worked on ends, as it does over bytes that were just read."""
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(UPLOAD + b"1\r\nx\r\n" * 20_000)
    assert not client.reading
    sandbox.lost = True  # from now on it raises whenever it is written to
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    async with asyncio.timeout(PATIENCE):
        while not client.aborted:  # noqa: ASYNC110 - a wire has no event for it
            await asyncio.sleep(0)
