"""A client that repeats a request to the byte gets what a first one would: nothing of an earlier answer sticks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.credentials import AccessRule
from gateway.limits import Limits
from gateway.table import RouteState, SandboxRoute
from gateway.upstream.targets import Targets
from tests.gateway.harness import Wire, World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
TARGETS = [
    b"/abc/80/a",
    b"/abc/80/b",
    b"/abc/99999/a",
    b"/other/80/a",
    b"/abc/81/a",
    b"/v1/x",
    b"/abc/80/0/12345678k/a",
    b"/sandboxes/abc/proxy/80/a",
]


class Asking:
    """One client, and what it hears and the sandbox gets for each of its requests."""

    def __init__(self, world: World, client: Wire) -> None:
        self.world = world
        self.client = client

    def ask(self, target: bytes) -> tuple[bytes, bytes]:
        """Status, and the request line that the sandbox got."""
        if not len(self.world.pool):
            self.world.pool = self.world.put().pools[80]
            self.world.stock()
        before = len(self.world.dialled)
        self.client.arrive(GET % target)
        line = b""
        for wire in self.world.dialled[:before]:
            sent = wire.take()
            if sent:
                line = sent.partition(b"\r\n")[0]
                wire.arrive(OK)
        return self.client.take()[9:12], line


def asking(world: World | None = None) -> Asking:
    world = world or World()
    world.stock()
    return Asking(world, world.connect())


@settings(max_examples=300)
@given(st.lists(st.sampled_from(TARGETS[:4] + TARGETS[5:]), min_size=1, max_size=6))
def test_history_does_not_matter(targets: list[bytes]) -> None:
    """Each request on a connection is served as if it were the first one."""
    one = asking()
    for target in targets:
        assert one.ask(target) == asking().ask(target)


@pytest.mark.parametrize("before", TARGETS[:1] + TARGETS[5:6])
def test_refused_again(before: bytes) -> None:
    """What is no address is refused each time: it neither becomes a call of the API nor another's request."""
    one = asking()
    one.ask(before)
    for _ in range(3):
        assert one.ask(b"/abc/99999/a") == (b"400", b"")


def test_retry_after_busy() -> None:
    """A request that was refused for a while and is sent again is that request, not the one before it."""
    world = World(Limits(max_sandbox_exchanges=1))
    one = asking(world)
    assert one.ask(b"/abc/80/a")[0] == b"200"
    world.stock()
    other = world.connect()
    other.arrive(GET % b"/abc/80/long")
    busy = next(wire for wire in world.dialled if wire.sent)
    assert (busy.take()[:9], one.ask(b"/abc/80/b")[0]) == (b"GET /long", b"429")
    busy.arrive(OK)
    assert one.ask(b"/abc/80/b") == (b"200", b"GET /b HTTP/1.1")


def test_access_changes() -> None:
    """The reading of a signed-looking address follows what the sandbox asks for now."""
    world = World()
    one = asking(world)
    signed = b"/abc/80/0/12345678k/a"
    assert one.ask(signed) == (b"200", b"GET /0/12345678k/a HTTP/1.1")
    world.table.put(SandboxRoute("abc", "1", Targets("192.0.2.1"), access=AccessRule(b"token")))
    assert one.ask(signed)[1] == b""
    world.put()
    assert one.ask(signed) == (b"200", b"GET /0/12345678k/a HTTP/1.1")


@pytest.mark.parametrize(
    ("state", "status"), [(RouteState.PAUSED, b"409"), (RouteState.STARTING, b"503"), (RouteState.STOPPED, b"409")]
)
def test_state_changes(state: RouteState, status: bytes) -> None:
    """The same request is served, refused and served again as its sandbox comes and goes."""
    world = World()
    one = asking(world)
    assert one.ask(b"/abc/80/a")[0] == b"200"
    world.put(state=state)
    one.client.arrive(GET % b"/abc/80/a")
    assert one.client.take()[9:12] == status
    world.put()
    assert one.ask(b"/abc/80/a") == (b"200", b"GET /a HTTP/1.1")


def test_other_life() -> None:
    """Nor does the same request reach the sandbox that had the id before."""
    world = World()
    one = asking(world)
    one.ask(b"/abc/80/a")
    (old,) = world.dialled
    world.pool = world.put(uid="2").pools[80]
    world.stock()
    assert one.ask(b"/abc/80/a") == (b"200", b"GET /a HTTP/1.1")
    assert old.closing


def test_silence_between() -> None:
    """A connection that was silent for a while serves the same request as before, and is closed in its time."""
    repeated = asking()
    first = repeated.ask(b"/abc/80/a")
    repeated.world.pass_time(10)
    assert repeated.ask(b"/abc/80/a") == first
    repeated.world.pass_time(10)
    repeated.world.pass_time(Limits().keep_alive_timeout)
    assert repeated.client.closing
