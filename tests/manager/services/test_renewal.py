"""Traffic extends the lives of sandboxes that asked for it, and of no others."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from manager.services.renewal import Renewal
from tests.manager.harness import START, House, wish

OPTED = {"access.renew.extend.seconds": "600"}
MIN_INTERVAL = 60.0


class Steady:
    """The gateway's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def steady() -> Steady:
    """The clock routes are stamped with."""
    return Steady()


@pytest.fixture
async def renewal(house: House, steady: Steady) -> Renewal:
    """Renewal on a clock of its own."""
    services = house.services
    renewal = Renewal(
        services.inventory, services.sandboxes, house.table, house.clock, min_interval=MIN_INTERVAL, steady=steady
    )
    services.inventory.listen(renewal.on_change)
    return renewal


async def used(house: House, steady: Steady, sandbox_id: str) -> None:
    route = house.table.get(sandbox_id.encode())
    assert route is not None
    route.last_active = steady()


async def expiry(house: House, sandbox_id: str) -> timedelta:
    sandbox = await house.services.sandboxes.get(sandbox_id)
    assert sandbox.expires_at is not None
    return sandbox.expires_at - START


@pytest.mark.request_field("extensions.access.renew.extend.seconds")
async def test_use_extends(house: House, renewal: Renewal, steady: Steady) -> None:
    """So many seconds after the last use, on disk too."""
    sandbox = await house.services.creation.create(wish(timeout=60, extensions=OPTED))
    await used(house, steady, sandbox.id)
    steady.now += 5
    house.clock.move(5)
    await renewal.sweep()
    assert await expiry(house, sandbox.id) == timedelta(seconds=600)
    assert len(await house.services.records.renewals.all()) == 1


async def test_use_never_shortens(house: House, renewal: Renewal, steady: Steady) -> None:
    """A later expiry stays."""
    sandbox = await house.services.creation.create(wish(timeout=7200, extensions=OPTED))
    await used(house, steady, sandbox.id)
    await renewal.sweep()
    assert await expiry(house, sandbox.id) == timedelta(seconds=7200)


async def test_without_use_or_without_asking(house: House, renewal: Renewal, steady: Steady) -> None:
    """Neither extends."""
    idle = await house.services.creation.create(wish(timeout=60, extensions=OPTED))
    plain = await house.services.creation.create(wish(timeout=60))
    await used(house, steady, plain.id)
    await renewal.sweep()
    assert await expiry(house, idle.id) == await expiry(house, plain.id) == timedelta(seconds=60)


async def test_at_most_once_per_interval(house: House, renewal: Renewal, steady: Steady) -> None:
    """A busy sandbox costs one write a minute; what was used in between counts at the next."""
    sandbox = await house.services.creation.create(wish(timeout=60, extensions=OPTED))
    for seconds, expected in ((0, 600), (30, 600), (30, 660)):
        steady.now += seconds
        house.clock.move(seconds)
        await used(house, steady, sandbox.id)
        await renewal.sweep()
        assert await expiry(house, sandbox.id) == timedelta(seconds=expected)


async def test_one_use_counts_once(house: House, renewal: Renewal, steady: Steady) -> None:
    """Without new traffic the expiry stands still."""
    sandbox = await house.services.creation.create(wish(timeout=60, extensions=OPTED))
    await used(house, steady, sandbox.id)
    await renewal.sweep()
    steady.now += 2 * MIN_INTERVAL
    house.clock.move(2 * MIN_INTERVAL)
    await renewal.sweep()
    assert await expiry(house, sandbox.id) == timedelta(seconds=600)


async def test_a_paused_sandbox_is_not_extended(house: House, renewal: Renewal, steady: Steady) -> None:
    """Requests that are refused are no use."""
    sandbox = await house.services.creation.create(wish(timeout=60, extensions=OPTED))
    await house.services.sandboxes.pause(sandbox.id)
    await used(house, steady, sandbox.id)
    await renewal.sweep()
    assert await expiry(house, sandbox.id) == timedelta(seconds=60)


async def test_expiry_and_use_at_once(house: House, renewal: Renewal, steady: Steady) -> None:
    """Whichever is first, nothing fails and both agree."""
    sandbox = await house.services.creation.create(wish(timeout=60, extensions=OPTED))
    await used(house, steady, sandbox.id)
    house.clock.move(60)
    await asyncio.gather(renewal.sweep(), *house.services.expiry.check())
    alive = sandbox.id in house.runtime.sandboxes
    assert (house.services.inventory.get(sandbox.id) is not None) is alive
