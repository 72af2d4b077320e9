"""Sandboxes that the table does not hold yet, or that a request wakes up: who asks, who waits, who is told what."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator

import pytest

from gateway.limits import Limits
from gateway.table import Resolution, RouteState
from tests.conformance.address import PORT, Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import LIMITS, World, running
from tests.conformance.wire import Message, Peer

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: %d\r\n\r\n"
UPGRADE = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
BUDGET = 0.2
CROWD = 50
BODY = bytes(range(256)) * 1024


class Manager:
    """Answers for sandboxes when the test says so."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.asked: list[str] = []
        self.cancelled = 0
        self.answer = Resolution.PUBLISHED
        self.ready = asyncio.Event()
        self.publishes = True

    async def resolve(self, sandbox_id: str) -> Resolution:
        """Makes the sandbox known when the test is ready."""
        return await self._do(f"resolve {sandbox_id}")

    async def wake(self, sandbox_id: str) -> Resolution:
        """Resumes the sandbox when the test is ready."""
        return await self._do(f"wake {sandbox_id}")

    async def _do(self, what: str) -> Resolution:
        self.asked.append(what)
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.publishes and self.world is not None:
            self.world.put(wakes=True)
        return self.answer


@pytest.fixture
async def manager() -> Manager:
    """Whom the gateway asks."""
    return Manager()


def limits() -> Limits:
    return dataclasses.replace(LIMITS, wake_budget=BUDGET * 20, wake_max_waiting=CROWD)


@pytest.fixture
async def asleep(manager: Manager) -> AsyncIterator[World]:
    """A gateway with a paused sandbox that may be woken."""
    async with running(World(limits(), resolver=manager)) as made:
        manager.world = made
        made.put(state=RouteState.PAUSED, wakes=True)
        yield made


@pytest.fixture
async def unknown(manager: Manager) -> AsyncIterator[World]:
    """A gateway that has lost touch with its manager's events and does not know the sandbox."""
    async with running(World(limits(), resolver=manager)) as made:
        manager.world = made
        made.forget()
        yield made


def code(answer: Message) -> tuple[int, str]:
    return answer.status, str(json.loads(answer.body)["code"])


@in_each_form
async def test_wakes(asleep: World, manager: Manager, form: Form) -> None:
    """A request to a sandbox that may be woken waits for it and is answered."""
    client = await asleep.connect()
    await client.send(form.write(GET))
    await asleep.until(lambda: manager.asked == ["wake sb"])
    manager.ready.set()
    assert (await client.message()).body == b"ok"
    assert (await client.ask(form.write(GET))).body == b"ok"
    assert manager.asked == ["wake sb"]


@in_each_form
async def test_wakes_once(asleep: World, manager: Manager, form: Form) -> None:
    """However many wait, the sandbox is woken once, and all are answered."""
    clients = [await asleep.connect() for _ in range(CROWD)]
    for client in clients:
        await client.send(form.write(GET))
    await asleep.settled()
    manager.ready.set()
    assert [(await client.message()).body for client in clients] == [b"ok"] * CROWD
    assert manager.asked == ["wake sb"]


@in_each_form
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_waits(asleep: World, manager: Manager, form: Form, chunked: bool) -> None:
    """The body of a request that waits is kept, and goes on from there."""
    raw = form.write(POST % len(BODY))
    sent = BODY
    if chunked:
        raw = raw.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
        sent = b"%x\r\n%b\r\n0\r\nX-T: y\r\n\r\n" % (len(BODY), BODY)
    client = await asleep.connect()
    await client.send(raw + sent[:1000])
    await asleep.until(lambda: manager.asked == ["wake sb"])
    manager.ready.set()
    await client.send(sent[1000:])
    assert (await client.message()).body == b"ok"
    assert asleep.backend.seen[0].body == BODY
    assert asleep.backend.seen[0].trailers == ([(b"x-t", b"y")] if chunked else [])


@in_each_form
async def test_tunnel_waits(asleep: World, manager: Manager, form: Form) -> None:
    """An upgrade wakes as well, and its early bytes are kept."""

    async def accept(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(b"HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        await peer.send(await peer.take(5))
        await peer.until_end()

    asleep.backend.play = accept
    client = await asleep.connect()
    await client.send(form.write(UPGRADE) + b"early")
    manager.ready.set()
    await client.take(len(b"HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"))
    assert await client.take(5) == b"early"


@in_each_form
async def test_owner_paused(world: World, form: Form) -> None:
    """A sandbox that its owner paused and that asked for nothing else is not woken."""
    world.put(state=RouteState.PAUSED)
    client = await world.connect()
    assert code(await client.ask(form.write(GET))) == (409, "GATEWAY::SANDBOX_PAUSED")


@in_each_form
async def test_credential_first(asleep: World, manager: Manager, form: Form) -> None:
    """Who may not enter wakes nobody."""
    asleep.put(state=RouteState.PAUSED, wakes=True, token=b"token")
    client = await asleep.connect()
    assert (await client.ask(form.write(GET))).status == 401
    assert manager.asked == []


@in_each_form
async def test_cannot_be_woken(asleep: World, manager: Manager, form: Form) -> None:
    """A sandbox that stays paused is told so."""
    manager.publishes = False
    manager.answer = Resolution.UNAVAILABLE
    manager.ready.set()
    client = await asleep.connect()
    assert (await client.ask(form.write(GET))).status in (409, 503)
    assert asleep.backend.connections == 0


@in_each_form
async def test_takes_too_long(manager: Manager, form: Form) -> None:
    """After its budget a request is told to come back; the waking goes on."""
    short = dataclasses.replace(limits(), wake_budget=BUDGET)
    async with running(World(short, resolver=manager)) as world:
        manager.world = world
        world.put(state=RouteState.PAUSED, wakes=True)
        client = await world.connect()
        answer = await client.ask(form.write(GET))
        assert code(answer) == (503, "GATEWAY::SANDBOX_WAKING")
        assert answer.one(b"retry-after") == b"1"
        assert manager.cancelled == 0
        manager.ready.set()
        await world.until(lambda: world.state() is RouteState.RUNNING)
        assert (await client.ask(form.write(GET))).body == b"ok"


async def test_too_many_wait(asleep: World, manager: Manager) -> None:
    """Only so many requests wait; the next one is told to come back."""
    for _ in range(CROWD):
        client = await asleep.connect()
        await client.send(Form.HOST.write(GET))
    await asleep.settled()
    client = await asleep.connect()
    assert code(await client.ask(Form.HOST.write(GET))) == (503, "GATEWAY::SANDBOX_WAKING")
    manager.ready.set()


@in_each_form
async def test_leaves_while_waiting(asleep: World, manager: Manager, form: Form) -> None:
    """A client that goes while it waits disturbs neither the waking nor the others."""
    gone, stays = await asleep.connect(), await asleep.connect()
    await gone.send(form.write(GET))
    await stays.send(form.write(GET))
    await asleep.settled()
    gone.abort()
    manager.ready.set()
    assert (await stays.message()).body == b"ok"
    assert manager.cancelled == 0


@in_each_form
async def test_resolves(unknown: World, manager: Manager, form: Form) -> None:
    """While events are out of step an unknown id is asked for, once."""
    clients = [await unknown.connect() for _ in range(CROWD)]
    for client in clients:
        await client.send(form.write(GET))
    await unknown.settled()
    manager.ready.set()
    assert [(await client.message()).body for client in clients] == [b"ok"] * CROWD
    assert manager.asked == ["resolve sb"]


@in_each_form
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Resolution.NOT_FOUND, (404, "GATEWAY::SANDBOX_NOT_FOUND")),
        (Resolution.UNAVAILABLE, (503, "GATEWAY::SANDBOX_UNAVAILABLE")),
    ],
)
async def test_does_not_resolve(
    unknown: World, manager: Manager, form: Form, answer: Resolution, expected: tuple[int, str]
) -> None:
    """An id that nobody knows is 404; when nobody can tell it is 503."""
    manager.publishes, manager.answer = False, answer
    manager.ready.set()
    client = await unknown.connect()
    assert code(await client.ask(form.write(GET))) == expected


@in_each_form
async def test_others_do_not_wait(unknown: World, manager: Manager, form: Form) -> None:
    """While one id is asked for, requests for others go on."""
    waiting = await unknown.connect()
    await waiting.send(form.write(GET))
    unknown.put("other")
    client = await unknown.connect()
    assert (await client.ask(form.write(GET, id="other"))).body == b"ok"
    manager.ready.set()


@in_each_form
async def test_not_asked_in_step(world: World, manager: Manager, form: Form) -> None:
    """While events are in step an unknown id is unknown, and nobody is asked."""
    async with running(World(resolver=manager)) as made:
        client = await made.connect()
        assert (await client.ask(form.write(GET, id="other"))).status == 404
        assert manager.asked == []


@pytest.mark.parametrize("form", [Form.PROXY, Form.URI], ids=["proxy", "uri"])
@pytest.mark.parametrize("ports", [{8080}, {0}])
async def test_kept_prefix(world: World, form: Form, ports: set[int]) -> None:
    """An application that was told its prefix sees its whole public path."""
    world.put(keep_prefix=frozenset(ports))
    client = await world.connect()
    await client.ask(form.write(GET))
    message = world.backend.seen[0]
    assert (message.target, message.one(b"x-forwarded-prefix")) == (form.prefix + b"/x", form.prefix)


@pytest.mark.parametrize("form", [Form.PROXY, Form.URI], ids=["proxy", "uri"])
@pytest.mark.parametrize("rest", [b"", b"?q", b"/", b"/?q"])
async def test_kept_slash(world: World, form: Form, rest: bytes) -> None:
    """Such an application decides itself about the slash behind its prefix, also for browsers."""
    world.put(keep_prefix=frozenset({PORT}))
    client = await world.connect()
    head = b"GET %b HTTP/1.1\r\nHost: gateway.test\r\nAccept: text/html\r\n\r\n" % (form.prefix + rest)
    assert (await client.ask(head)).status == 200
    assert world.backend.seen[0].target == form.prefix + rest


@pytest.mark.parametrize("form", [Form.HEADER, Form.HOST], ids=["header", "host"])
async def test_nothing_to_keep(world: World, form: Form) -> None:
    """Where no prefix is taken away there is none to keep."""
    world.put(keep_prefix=frozenset({0}))
    client = await world.connect()
    await client.ask(form.write(GET))
    assert world.backend.seen[0].target == b"/x"
