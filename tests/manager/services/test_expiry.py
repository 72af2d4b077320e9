"""Expiry: everything ends at its time, also across restarts, failures and clocks that jump."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.table import Removal
from manager.domain.errors import Failed
from manager.services.expiry import RETRY
from tests.manager.fake_runtime import FakeRuntime, running
from tests.manager.harness import START, House, MovedClock, open_house, until, wish

YEAR = 365 * 86400


async def expire(house: House) -> None:
    await asyncio.gather(*house.services.expiry.check())


async def test_it_ends_at_its_time_and_not_before(house: House) -> None:
    """A second early nothing happens; at the second the sandbox is deleted and the route says expired."""
    sandbox = await house.services.creation.create(wish(timeout=60))
    house.clock.move(59)
    await expire(house)
    assert sandbox.id in house.runtime.sandboxes
    house.clock.move(1)
    await expire(house)
    assert house.runtime.sandboxes == {}
    assert house.table.gone(sandbox.id.encode()) is Removal.EXPIRED


async def test_manual_cleanup_never_ends(house: House) -> None:
    """Without a timeout there is no deadline."""
    await house.services.creation.create(wish(timeout=None))
    assert len(house.services.expiry) == 0


async def test_a_renewal_counts_both_ways(house: House) -> None:
    """Later is later, earlier is earlier."""
    later = await house.services.creation.create(wish(timeout=60))
    earlier = await house.services.creation.create(wish(timeout=600))
    await house.services.sandboxes.renew(later.id, START + timedelta(seconds=1000))
    await house.services.sandboxes.renew(earlier.id, START + timedelta(seconds=100))
    house.clock.move(100)
    await expire(house)
    assert list(house.runtime.sandboxes) == [later.id]


async def test_overdue_at_start(tmp_path: Path) -> None:
    """What expired while the server was away is deleted as soon as it is back; the loop does it unasked."""
    runtime = FakeRuntime()
    runtime.sandboxes = {
        "old": running("old", expires_at=START - timedelta(days=1)),
        "young": running("young", expires_at=START + timedelta(days=1)),
        "manual": running("manual"),
    }
    async with open_house(tmp_path, runtime):
        await until(lambda: "old" not in runtime.sandboxes)
        assert set(runtime.sandboxes) == {"young", "manual"}


async def test_a_deletion_that_fails_is_tried_again(house: House) -> None:
    """The sandbox stays due, and goes half a minute later."""
    await house.services.creation.create(wish(timeout=60))
    house.runtime.fail("delete", Failed("DOCKER::SANDBOX_DELETE_FAILED", "busy"))
    house.clock.move(60)
    await expire(house)
    assert len(house.runtime.sandboxes) == 1
    house.clock.move(RETRY.total_seconds())
    await expire(house)
    assert house.runtime.sandboxes == {}


async def test_failures_are_logged_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """While the Engine is away every attempt fails for the same reason: one line for all, and one when it is over."""
    caplog.set_level(logging.INFO, "manager.services.expiry")
    for _ in range(3):
        await house.services.creation.create(wish(timeout=60))
    house.clock.move(60)
    for _ in range(2):
        for _ in range(3):
            house.runtime.fail("delete", Failed("DOCKER::ENGINE_UNREACHABLE", "the Engine is away"))
        await expire(house)
        house.clock.move(RETRY.total_seconds())
    await expire(house)
    assert house.runtime.sandboxes == {}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_clock_set_back_ends_nothing_early(house: House) -> None:
    """An hour back means an hour more of waiting, not an early end."""
    await house.services.creation.create(wish(timeout=60))
    house.clock.move(-3600)
    house.clock.move(61)
    await expire(house)
    assert len(house.runtime.sandboxes) == 1
    house.clock.move(3600)
    await expire(house)
    assert house.runtime.sandboxes == {}


async def test_a_clock_set_forward_and_back_delays_no_second_attempt(house: House) -> None:
    """A deletion fails while the clock is a year ahead; put right, the clock brings the next attempt in its time."""
    await house.services.creation.create(wish(timeout=60))
    house.runtime.fail("delete", Failed("DOCKER::SANDBOX_DELETE_FAILED", "busy"))
    house.clock.move(YEAR)
    await expire(house)
    house.clock.move(-YEAR)
    await expire(house)
    assert len(house.runtime.sandboxes) == 1
    house.clock.move(60)
    await expire(house)
    assert house.runtime.sandboxes == {}


async def test_a_renewal_during_expiry_wins_or_loses_but_never_both(house: House) -> None:
    """A renewal that comes while the deletion is under way is refused; one before it keeps the sandbox."""
    sandbox = await house.services.creation.create(wish(timeout=60))
    house.clock.move(60)
    work = house.services.expiry.check()
    await house.services.sandboxes.renew(sandbox.id, START + timedelta(hours=1))
    await asyncio.gather(*work)
    alive = sandbox.id in house.runtime.sandboxes
    shown = house.services.inventory.get(sandbox.id)
    assert (shown is not None) is alive


async def test_many_renewals_do_not_pile_up(tmp_path: Path) -> None:
    """The heap keeps no more than a few entries per sandbox."""
    async with open_house(tmp_path, clock=MovedClock()) as house:
        sandbox = await house.services.creation.create(wish())
        for second in range(300):
            await house.services.sandboxes.renew(sandbox.id, START + timedelta(hours=1, seconds=second))
        assert len(house.services.expiry._heap) < 100
        assert len(house.services.expiry) == 1
