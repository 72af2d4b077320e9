"""One request and its response: what is retried, who hears what when somebody leaves, and that nobody goes deaf."""

from __future__ import annotations

import asyncio

import pytest

from gateway.access.credentials import AccessRule
from gateway.access.quotas import Quota, QuotaRules
from gateway.errors import PortNotListening
from gateway.limits import Limits
from gateway.table import Removal, Resolution, RouteState
from tests.gateway.harness import ADDRESS, Manager, Wire, World

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"Content-Length: %d\r\n\r\n"
CHUNKED_POST = b"POST /x HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
LARGE = 100_000


def request(method: bytes) -> bytes:
    return GET.replace(b"GET", method, 1)


def status(wire: Wire) -> bytes:
    """The status of the one answer that was sent."""
    sent = wire.take()
    assert sent.count(b"HTTP/1.1 ") <= 1, sent
    return sent[9:12]


def asked(raw: bytes = GET, limits: Limits | None = None) -> tuple[World, Wire, Wire]:
    """A request that has reached the sandbox, with the wires of client and sandbox."""
    world = World(limits)
    sandbox, client = world.stock(), world.connect()
    client.arrive(raw)
    return world, client, sandbox


async def turn(times: int = 10) -> None:
    """Lets everything run that is ready."""
    for _ in range(times):
        await asyncio.sleep(0)


def test_there_and_back() -> None:
    """The plainest exchange; both connections are free for the next."""
    world, client, sandbox = asked()
    assert sandbox.take().startswith(b"GET /x HTTP/1.1\r\nHost: x\r\n")
    sandbox.arrive(OK)
    assert client.take() == OK
    assert (len(world.pool), client.closing, len(world.route.live)) == (1, False, 0)


# What is sent again, and what is not.


async def lost(method: bytes, *, used: bool, answer: bytes = b"", body: bytes = b"") -> tuple[World, Wire]:
    """A request whose connection dies after `answer`; `used` says whether the connection had served before."""
    world = World()
    sandbox, client = world.stock(), world.connect()
    if used:
        client.arrive(GET)
        sandbox.arrive(OK)
        client.take()
    raw = request(method)
    client.arrive(raw.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body)) + body if body else raw)
    sandbox.arrive(answer)
    sandbox.lose(ConnectionResetError())
    await turn()
    return world, client


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
async def test_repeated(method: bytes) -> None:
    """An idle connection that dies before a byte of the answer says nothing about the request: it is sent again."""
    world, client = await lost(method, used=True)
    again = await world.dialled_count(2)
    assert again.sent.startswith(method)
    again.arrive(OK if method != b"HEAD" else OK[:-2])
    assert (status(client), world.plane.counters.retries) == (b"200", 1)


@pytest.mark.parametrize(
    ("method", "used", "answer", "body"),
    [
        (b"POST", True, b"", b""),
        (b"PATCH", True, b"", b""),
        (b"PUT", True, b"", b"body"),
        (b"GET", False, b"", b""),
        (b"GET", True, b"H", b""),
        (b"GET", True, b"HTTP/1.1 103 Early\r\n\r\n", b""),
    ],
    ids=["post", "patch", "body", "fresh connection", "first byte", "interim answer"],
)
async def test_not_repeated(method: bytes, used: bool, answer: bytes, body: bytes) -> None:
    """Everything else may have been done already: the client decides."""
    world, client = await lost(method, used=used, answer=answer, body=body)
    sent = client.take()
    assert b"HTTP/1.1 502 " in sent
    assert (len(world.dialled), world.plane.counters.retries) == (1, 0)


async def test_repeated_once() -> None:
    """The second connection is a fresh one; when it dies too, that is the answer."""
    world, client = await lost(b"GET", used=True)
    (await world.dialled_count(2)).lose(ConnectionResetError())
    await turn()
    assert (status(client), len(world.dialled)) == (b"502", 2)


async def test_repeated_into_a_refusal() -> None:
    """When the port does not listen any more, that is the answer."""
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET)
    sandbox.arrive(OK)
    client.take()
    world.refusing = PortNotListening()
    client.arrive(GET)
    sandbox.lose()
    await turn()
    assert status(client) == b"504"


async def test_hanging_up_late_is_no_closed_port() -> None:
    """A forwarder finds out soon that nobody listens; what ends later than that was a program."""
    world = World()
    world.pool.forwarded = True
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET)
    world.pass_time(1)
    sandbox.lose()
    await turn()
    assert (status(client), len(world.dialled)) == (b"502", 1)


@pytest.mark.parametrize("forwarded", [False, True], ids=["plain", "forwarded"])
async def test_connection_lost_before_it_is_used(forwarded: bool) -> None:
    """Nothing of the request has left, so behind a forwarder any is sent on another; none waits on the lost one."""
    world = World()
    world.pool.forwarded = forwarded
    world.lost_dials = 1
    client = world.connect()
    client.arrive(POST % 4 + b"body")
    if forwarded:
        sandbox = await world.dialled_count(2)
        await turn()
        assert sandbox.sent.endswith(b"\r\n\r\nbody")
        sandbox.arrive(OK)
        assert status(client) == b"200"
    else:
        await turn()
        assert status(client) == b"502"


# A client that was refused or answered early must be heard again.


@pytest.mark.parametrize("size", [10, LARGE])
async def test_next_request_after_a_failed_dial(size: int) -> None:
    """However much of the body had come before the dial failed, the next request on the connection is read."""
    world = World()
    world.refusing = PortNotListening()
    client = world.connect()
    client.arrive(POST % size + b"x" * size)
    await turn()
    assert (status(client), client.reading) == (b"504", True)
    world.refusing = None
    client.arrive(GET)
    (await world.dialled_count(1)).arrive(OK)
    assert status(client) == b"200"


async def test_next_request_after_an_unknown_id() -> None:
    """The same when the manager was asked first and knew nothing of the sandbox."""

    async def knows_nothing() -> Resolution:
        return Resolution.NOT_FOUND

    world = World(resolver=Manager(knows_nothing))
    client = world.connect()
    client.arrive((POST % LARGE).replace(b"abc-80", b"other-80") + b"x" * LARGE)
    await turn()
    assert (status(client), client.reading) == (b"404", True)


def test_next_request_after_an_early_answer() -> None:
    """A sandbox that answers while it does not take its upload leaves the client connection usable."""
    _, client, sandbox = asked(POST % 4 + b"body")
    sandbox.protocol.pause_writing()
    assert not client.reading
    sandbox.arrive(TOO_LARGE)
    assert (status(client), client.reading, client.closing) == (b"413", True, False)


def test_early_answer_to_an_unfinished_upload() -> None:
    """The answer is delivered, the rest of the upload dropped, and the connection ends in order."""
    world, client, sandbox = asked(POST % 100 + b"part")
    sandbox.arrive(TOO_LARGE)
    sent = client.take()
    assert sent.startswith(b"HTTP/1.1 413")
    assert b"Connection: close\r\n" in sent
    client.arrive(b"more")
    assert (client.ended, client.aborted, sandbox.aborted, len(world.pool)) == (True, False, True, 0)


@pytest.mark.parametrize("unexpected", [RuntimeError("a fault of ours"), UnicodeError("an odd host name")])
async def test_unknown_failure_of_a_dial(unexpected: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A failure that nobody foresaw is answered at once and logged with its traceback, once."""
    world = World()
    world.refusing = unexpected  # type: ignore[assignment]
    client = world.connect()
    client.arrive(GET)
    await turn()
    assert status(client) in (b"500", b"502")
    assert [record.exc_info is not None for record in caplog.records if record.name.startswith("gateway")] == [True]


async def test_unknown_failure_of_the_resolver(caplog: pytest.LogCaptureFixture) -> None:
    """Likewise in the manager."""

    async def broken() -> Resolution:
        raise ValueError("broken")

    world = World(resolver=Manager(broken))
    client = world.connect()
    client.arrive(GET.replace(b"abc-80", b"other-80"))
    await turn()
    assert status(client) in (b"500", b"503")
    assert caplog.records


# Somebody leaves, at every moment.


async def at_state(state: str) -> tuple[World, Wire, Wire | None]:
    """An exchange in this state."""
    if state == "RESOLVING":
        asked_for = asyncio.Event()

        async def slow() -> Resolution:
            await asked_for.wait()
            return Resolution.UNAVAILABLE

        world = World(resolver=Manager(slow))
        client = world.connect()
        client.arrive(GET.replace(b"abc-80", b"other-80"))
        await turn()
        return world, client, None
    if state == "DIALING":
        world = World()
        world.slow_dial = asyncio.Event()
        client = world.connect()
        client.arrive(GET)
        await turn()
        return world, client, None
    world, client, sandbox = asked()
    if state == "ANSWERING":
        sandbox.arrive(OK[:-1])
    return world, client, sandbox


STATES = ["RESOLVING", "DIALING", "WAITING", "ANSWERING"]


@pytest.mark.parametrize("state", STATES)
async def test_client_leaves(state: str) -> None:
    """Whoever worked for a client that has gone stops, and nothing of the exchange stays behind."""
    world, client, sandbox = await at_state(state)
    client.end()
    client.settle()
    await turn()
    assert (len(world.plane.clients), len(world.route.live), world.plane.counters.connections) == (0, 0, 0)
    assert sandbox is None or sandbox.aborted
    assert not world.plane._tasks


@pytest.mark.parametrize(("state", "answer"), [("DIALING", b"410"), ("WAITING", b"410")])
async def test_sandbox_deleted_before_the_answer(state: str, answer: bytes) -> None:
    """Before its answer has begun, the client is told that the sandbox is gone, and keeps its connection."""
    world, client, sandbox = await at_state(state)
    world.table.remove("abc", Removal.DELETED)
    await turn()
    assert (status(client), client.closing) == (answer, False)
    assert sandbox is None or sandbox.aborted
    assert not world.plane._tasks


async def test_sandbox_deleted_within_the_answer() -> None:
    """Once it has begun, the client sees that something is missing."""
    world, client, _ = await at_state("ANSWERING")
    world.table.remove("abc", Removal.DELETED)
    assert client.take() == OK[:-1]
    assert client.aborted


async def test_connection_comes_too_late() -> None:
    """A connection that is made while its sandbox is removed is closed, and the client hears once."""
    world, client, _ = await at_state("DIALING")
    assert world.slow_dial is not None
    world.slow_dial.set()
    world.table.remove("abc", Removal.DELETED)
    await turn()
    assert status(client) == b"410"
    assert all(wire.closing for wire in world.dialled)


async def test_paused_while_dialling() -> None:
    """A sandbox that is paused before the connection stands is a paused sandbox."""
    world, client, _ = await at_state("DIALING")
    world.put(state=RouteState.PAUSED)
    await turn()
    assert status(client) == b"409"


def test_time_is_over() -> None:
    """A sandbox that never answers is given up when nothing has moved for long enough."""
    world, client, sandbox = asked(limits=Limits(stream_idle_timeout=100))
    for _ in range(4):
        world.pass_time(60)
    assert (status(client), sandbox.aborted) == (b"504", True)


def test_upload_that_is_never_read() -> None:
    """So is one that neither reads its upload nor answers."""
    world, client, sandbox = asked(POST % 100 + b"part", Limits(stream_idle_timeout=100))
    sandbox.protocol.pause_writing()
    for _ in range(10):
        world.pass_time(60)
    assert (status(client), sandbox.aborted) == (b"504", True)


def test_upload_that_stops() -> None:
    """A client that stops within its body hears 408, and the sandbox sees a body that does not end."""
    world, client, sandbox = asked(POST % 100 + b"part")
    world.pass_time(world.limits.body_idle_timeout + 2)
    assert (status(client), sandbox.aborted) == (b"408", True)


# Bodies.


async def test_body_waits_for_the_connection() -> None:
    """What comes before there is a connection is kept, in order, and reading stops meanwhile."""
    world = World()
    world.slow_dial = asyncio.Event()
    client = world.connect()
    client.arrive(POST % 10 + b"01234")
    await turn()
    assert not client.reading
    world.slow_dial.set()
    sandbox = await world.dialled_count(1)
    await turn()
    client.arrive(b"56789")
    assert sandbox.take().endswith(b"\r\n\r\n0123456789")


@pytest.mark.parametrize(
    "parts", [[b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"], [b"5\r\nhe", b"llo\r\n", b"0\r\nX: y\r\n\r\n"]]
)
async def test_chunks_wait_for_the_connection(parts: list[bytes]) -> None:
    """Likewise chunks and trailers."""
    world = World()
    world.slow_dial = asyncio.Event()
    client = world.connect()
    client.arrive(CHUNKED_POST, *parts)
    await turn()
    world.slow_dial.set()
    sandbox = await world.dialled_count(1)
    await turn()
    client.settle()
    _, _, body = sandbox.take().partition(b"\r\n\r\n")
    assert body.replace(b"2\r\nhe\r\n3\r\nllo\r\n", b"5\r\nhello\r\n") == b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"


def test_body_grows_too_large() -> None:
    """A chunked body past the limit is refused where it passes, and the sandbox never sees its end."""
    _, client, sandbox = asked(CHUNKED_POST, Limits(max_body_bytes=8))
    client.arrive(b"8\r\n12345678\r\n")
    client.arrive(b"1\r\n9\r\n0\r\n\r\n")
    assert (status(client), sandbox.aborted) == (b"413", True)
    assert not sandbox.sent.endswith(b"0\r\n\r\n")


def test_slow_client() -> None:
    """A client that does not read stops the sandbox, not the process; the next exchange starts afresh."""
    world, client, sandbox = asked()
    sandbox.arrive(OK[:-1])
    client.protocol.pause_writing()
    assert not sandbox.reading
    client.protocol.resume_writing()
    sandbox.arrive(OK[-1:])
    assert (client.take(), sandbox.reading, len(world.pool)) == (OK, True, 1)


def test_slow_client_at_the_end() -> None:
    """A connection given back while its last client was slow reads again at once."""
    world, client, sandbox = asked()
    client.protocol.pause_writing()
    sandbox.protocol.data_received(OK)
    assert (sandbox.reading, len(world.pool)) == (True, 1)
    client.arrive(GET)
    assert sandbox.sent.count(b"GET") == 1
    client.protocol.resume_writing()
    client.settle()
    assert sandbox.sent.count(b"GET") == 2


def test_limit_per_sandbox() -> None:
    """One sandbox takes so many exchanges at once and no more."""
    world = World(Limits(max_sandbox_exchanges=1))
    world.stock(2)
    first, second = world.connect(), world.connect()
    first.arrive(GET)
    second.arrive(GET)
    assert (status(second), second.closing) == (b"429", False)
    first.lose()
    second.arrive(GET)
    assert second.take() == b""


# Sandboxes that sleep.


class Alarm:
    """Wakes the sandbox of a world when the test says so, or fails to."""

    def __init__(self) -> None:
        self.rings = asyncio.Event()
        self.asked = 0
        self.works = True
        self.world = World(resolver=Manager(self._wake))
        self.world.put(state=RouteState.PAUSED, wakes=True)

    async def _wake(self) -> Resolution:
        self.asked += 1
        await self.rings.wait()
        if self.works:
            self.world.pool = self.world.put(wakes=True).pools[80]
        return Resolution.PUBLISHED


async def test_woken() -> None:
    """A paused sandbox that may be woken is, once for all who wait, and then serves each of them."""
    alarm = Alarm()
    clients = [alarm.world.connect() for _ in range(3)]
    for client in clients:
        client.arrive(POST % 4 + b"body")
    await turn()
    assert (alarm.asked, [client.take() for client in clients]) == (1, [b"", b"", b""])
    alarm.rings.set()
    await alarm.world.dialled_count(3)
    await turn()
    for wire in alarm.world.dialled:
        assert wire.take().endswith(b"\r\n\r\nbody")
        wire.arrive(OK)
    assert [status(client) for client in clients] == [b"200"] * 3


async def test_not_woken() -> None:
    """One that does not wake is said to be paused, and its client is heard again."""
    alarm = Alarm()
    alarm.works = False
    client = alarm.world.connect()
    client.arrive(POST % LARGE + b"x" * LARGE)
    await turn()
    alarm.rings.set()
    await turn()
    assert (status(client), client.reading) == (b"409", True)


@pytest.mark.parametrize("removed", [True, False])
async def test_gone_while_waking(removed: bool) -> None:
    """A sandbox that is removed, or a client that leaves, while it wakes leaves nothing behind."""
    alarm = Alarm()
    client = alarm.world.connect()
    client.arrive(GET)
    await turn()
    if removed:
        alarm.works = False
        alarm.world.table.remove("abc", Removal.DELETED)
    else:
        client.lose()
    alarm.rings.set()
    await turn()
    assert status(client) == (b"410" if removed else b"")
    assert not alarm.world.plane._tasks
    assert not alarm.world.dialled


async def test_key_of_a_sleeper() -> None:
    """Whoever waits for a sandbox to wake is judged again by what holds when it has."""
    alarm = Alarm()
    client = alarm.world.connect()
    client.arrive(GET)
    await turn()
    alarm.world.route.access = AccessRule(b"token")
    alarm.works = False
    alarm.world.route.state = RouteState.RUNNING
    alarm.rings.set()
    await turn()
    assert (status(client), alarm.world.dialled) == (b"401", [])


async def test_paced_client_is_heard_for_others() -> None:
    """What one sandbox may not take in this time is no reason to keep the client's next request waiting."""
    world = World()
    world.route.quota = Quota(QuotaRules(bytes_per_second=10), world.plane.clock())
    sandbox, client = world.stock(), world.connect()
    client.arrive(POST % 4000 + b"x" * 4000)
    assert not client.reading
    sandbox.arrive(OK)
    assert (status(client), client.reading, len(world.pool)) == (b"200", True, 1)
