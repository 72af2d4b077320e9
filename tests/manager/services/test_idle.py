"""Sandboxes that asked for it sleep when nobody uses them, and wake when somebody does."""

from __future__ import annotations

import asyncio

import pytest

from gateway.table import Resolution, RouteState, SandboxRoute
from manager.domain.errors import Failed
from manager.domain.sandbox import Sandbox, SandboxState
from manager.services.idle import IdlePause
from manager.services.publish import RouteResolver
from tests.manager.harness import House, until, wish

ASKED = {"access.pause.after.idle.seconds": "60"}


class Steady:
    """The gateway's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class OpenStream:
    """Something open on a route."""

    keys: tuple[bytes, ...] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    since: float = 0.0

    def revoke(self, reason: object) -> None:
        """Ends."""


@pytest.fixture
async def steady() -> Steady:
    """The clock routes are stamped with."""
    return Steady()


@pytest.fixture
async def idle(house: House, steady: Steady) -> IdlePause:
    """Idle pause on a clock of its own."""
    services = house.services
    idle = IdlePause(services.inventory, services.sandboxes, house.table, services.tasks, steady)
    services.inventory.listen(idle.on_change)
    return idle


async def made(house: House, **changes: object) -> tuple[Sandbox, SandboxRoute]:
    sandbox = await house.services.creation.create(wish(**{"extensions": ASKED, **changes}))
    route = house.table.get(sandbox.id.encode())
    assert route is not None
    return sandbox, route


def state(house: House, sandbox: Sandbox) -> SandboxState:
    shown = house.services.inventory.get(sandbox.id)
    assert shown is not None
    return shown.status.state


async def test_the_route_says_that_it_wakes(house: House) -> None:
    """Only where the owner asked for it."""
    assert (await made(house))[1].wakes
    assert not (await made(house, extensions={}))[1].wakes


async def test_it_sleeps_after_its_time(house: House, idle: IdlePause, steady: Steady) -> None:
    """Not a second before, and counted from the last use."""
    sandbox, route = await made(house)
    steady.now += 30
    route.last_active = steady()
    for seconds, expected in ((59, SandboxState.RUNNING), (1, SandboxState.PAUSED)):
        steady.now += seconds
        await idle.sweep()
        assert state(house, sandbox) is expected


async def test_who_did_not_ask_never_sleeps(house: House, idle: IdlePause, steady: Steady) -> None:
    """Without the extension nothing happens."""
    sandbox, _ = await made(house, extensions={})
    steady.now += 10_000
    await idle.sweep()
    assert state(house, sandbox) is SandboxState.RUNNING


async def test_what_is_open_keeps_it_awake(house: House, idle: IdlePause, steady: Steady) -> None:
    """A quiet WebSocket is use."""
    sandbox, route = await made(house)
    route.live.add(OpenStream())
    steady.now += 10_000
    await idle.sweep()
    assert state(house, sandbox) is SandboxState.RUNNING


async def test_waking(house: House, idle: IdlePause, steady: Steady) -> None:
    """All who ask share one resume; afterwards its time begins anew."""
    sandbox, _ = await made(house)
    steady.now += 60
    await idle.sweep()
    assert await asyncio.gather(*(idle.wake(sandbox.id) for _ in range(16))) == [True] * 16
    assert house.runtime.calls["resume"] == 1
    steady.now += 59
    await idle.sweep()
    assert state(house, sandbox) is SandboxState.RUNNING


async def test_waking_goes_on_when_the_caller_leaves(house: House, idle: IdlePause) -> None:
    """A request that gives up does not leave a sandbox half awake."""
    sandbox, _ = await made(house)
    await house.services.sandboxes.pause(sandbox.id)
    gate = house.runtime.hold("resume")
    caller = asyncio.create_task(idle.wake(sandbox.id))
    await until(lambda: house.runtime.calls["resume"] == 1)
    caller.cancel()
    gate.set()
    await until(lambda: state(house, sandbox) is SandboxState.RUNNING)


async def test_waking_that_fails(house: House, idle: IdlePause) -> None:
    """Says so, and may be tried again."""
    sandbox, _ = await made(house)
    await house.services.sandboxes.pause(sandbox.id)
    house.runtime.fail("resume", Failed("X", "frozen"))
    assert await idle.wake(sandbox.id) is False
    assert await idle.wake(sandbox.id) is True


async def test_what_the_gateway_is_told(house: House, idle: IdlePause) -> None:
    """Running is published, who did not ask is unavailable, nobody is not found."""
    resolver = RouteResolver(house.runtime, house.services.inventory, idle.wake)
    sandbox, _ = await made(house)
    other, _ = await made(house, extensions={})
    for box in (sandbox, other):
        await house.services.sandboxes.pause(box.id)
    assert await resolver.wake(sandbox.id) is Resolution.PUBLISHED
    assert await resolver.wake(sandbox.id) is Resolution.PUBLISHED
    assert await resolver.wake(other.id) is Resolution.UNAVAILABLE
    assert await resolver.wake("nobody") is Resolution.NOT_FOUND
    route = house.table.get(sandbox.id.encode())
    assert route is not None
    assert route.state is RouteState.RUNNING
