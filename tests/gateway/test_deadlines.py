"""Deadlines: one sweep, in moved time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.deadlines import MOST_AT_ONCE, NEVER, SWEEP_SECONDS, Deadlines
from tests.gateway.harness import PATIENCE


class Member:
    """Has a deadline and remembers when it passed."""

    def __init__(self, deadline: float, again: float = NEVER) -> None:
        self.deadline = deadline
        self.passed: list[float] = []
        self._again = again

    def expire(self, now: float) -> None:
        self.passed.append(now)
        self.deadline = self._again


class Broken(Member):
    """Cannot handle its deadline."""

    def expire(self, now: float) -> None:
        super().expire(now)
        raise ValueError("broken")


def test_due_and_not_due() -> None:
    """Whatever is due expires, whatever is not stays."""
    deadlines, due, later = Deadlines(), Member(10.0), Member(10.1)
    deadlines.add(due)
    deadlines.add(later)
    deadlines.sweep(10.0)
    assert (due.passed, later.passed) == ([10.0], [])


async def test_thousands_that_are_due_at_once() -> None:
    """They expire a few in each turn of the loop; who gets a later deadline meanwhile is left alone."""
    deadlines, members = Deadlines(), [Member(1.0) for _ in range(1000)]
    for member in members:
        deadlines.add(member)
    deadlines.sweep(1.0)
    waiting = [member for member in members if not member.passed]
    assert len(waiting) == 1000 - MOST_AT_ONCE
    waiting[0].deadline = 9.0
    while sum(bool(member.passed) for member in members) < 999:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert not waiting[0].passed


class Paused:
    """A connection that is not read from, and counts how often its peer was looked for."""

    looks = 0

    def look(self) -> None:
        self.looks += 1


async def test_thousands_that_are_not_read_from() -> None:
    """Their peers are looked for a few in each turn of the loop, not those of connections that are read from again."""
    deadlines, members = Deadlines(), [Paused() for _ in range(1000)]
    deadlines.held.update(members)
    deadlines.sweep(1.0)
    assert sum(member.looks for member in members) == MOST_AT_ONCE
    again = next(member for member in members if not member.looks)
    deadlines.held.discard(again)
    while sum(member.looks for member in members) < 999:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert not again.looks


def test_never() -> None:
    """NEVER does not come."""
    deadlines, member = Deadlines(), Member(NEVER)
    deadlines.add(member)
    deadlines.sweep(1e18)
    assert member.passed == []


def test_a_later_deadline() -> None:
    """Who sets itself a later deadline is asked again then."""
    deadlines, member = Deadlines(), Member(1.0, again=5.0)
    deadlines.add(member)
    for now in (1.0, 2.0, 5.0):
        deadlines.sweep(now)
    assert member.passed == [1.0, 5.0]


def test_discarded() -> None:
    """Who has left is not asked, and may leave twice."""
    deadlines, member = Deadlines(), Member(1.0)
    deadlines.add(member)
    deadlines.discard(member)
    deadlines.discard(member)
    deadlines.sweep(2.0)
    assert member.passed == []


def test_one_failure_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot handle its deadline is logged with its traceback, and the others expire all the same."""
    deadlines = Deadlines()
    members = [Broken(1.0) if number % 2 else Member(1.0) for number in range(6)]
    for member in members:
        deadlines.add(member)
    with caplog.at_level(logging.ERROR):
        deadlines.sweep(1.0)
    assert all(member.passed for member in members)
    assert [record.exc_info is not None for record in caplog.records] == [True] * 3


def test_members_may_come_and_go_meanwhile() -> None:
    """Expiring one may add and drop others; the sweep does not stumble."""
    deadlines = Deadlines()

    class Spawning(Member):
        def expire(self, now: float) -> None:
            super().expire(now)
            deadlines.discard(self)
            deadlines.add(Member(now))

    for _ in range(10):
        deadlines.add(Spawning(1.0))
    deadlines.sweep(1.0)
    assert deadlines.now == 1.0


async def test_the_clock_runs() -> None:
    """Once started it sweeps by itself, and keeps the coarse clock."""
    deadlines, passed = Deadlines(), asyncio.Event()

    class Waking(Member):
        def expire(self, now: float) -> None:
            super().expire(now)
            passed.set()

    loop = asyncio.get_running_loop()
    deadlines.start(loop)
    started = deadlines.now
    deadlines.add(Waking(started))
    async with asyncio.timeout(SWEEP_SECONDS + PATIENCE):
        await passed.wait()
    deadlines.stop()
    assert deadlines.now > started


async def test_stopping() -> None:
    """After the stop nothing sweeps, and stopping twice is no error."""
    deadlines = Deadlines()
    deadlines.start(asyncio.get_running_loop())
    deadlines.stop()
    deadlines.stop()
    deadlines._tick()
    assert deadlines._timer is None
