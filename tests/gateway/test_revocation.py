"""Thousands of ends are spread over turns of the loop, and meet what was meant and nothing else."""

from __future__ import annotations

import asyncio
import time

from gateway.revocation import AT_ONCE
from gateway.table import Removal, RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets
from tests.gateway.harness import PATIENCE

MANY = 10 * AT_ONCE


class Open:
    """Something open on a route, which remembers why it was ended."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys
        self.bytes_in = self.bytes_out = 1
        self.since = time.monotonic()
        self.reasons: list[Removal] = []

    def revoke(self, reason: Removal) -> None:
        self.reasons.append(reason)


class Broken(Open):
    """Cannot be ended."""

    def revoke(self, reason: Removal) -> None:
        super().revoke(reason)
        raise ValueError("broken")


def put(table: RouteTable, id: str = "a", state: RouteState = RouteState.RUNNING, uid: str = "1") -> SandboxRoute:
    return table.put(SandboxRoute(id, uid, Targets(), state=state))


def crowd(route: SandboxRoute, count: int = MANY, *keys: bytes) -> list[Open]:
    """So much is open on the route."""
    made = [Open(*keys) for _ in range(count)]
    route.live.update(made)
    return made


def ended(members: list[Open]) -> int:
    return sum(bool(member.reasons) for member in members)


async def all_end(members: list[Open]) -> list[int]:
    """How many had ended after each turn of the loop until all have."""
    counts = [ended(members)]
    async with asyncio.timeout(PATIENCE):
        while ended(members) < len(members):
            await asyncio.sleep(0)
            counts.append(ended(members))
    return counts


async def test_a_few_in_each_turn() -> None:
    """The first at once, the others after those who wait already; each once, and with its reason."""
    table = RouteTable()
    members = crowd(put(table))
    table.remove("a", Removal.EXPIRED)
    counts = await all_end(members)
    assert counts == list(range(AT_ONCE, MANY + 1, AT_ONCE))
    assert {tuple(member.reasons) for member in members} == {(Removal.EXPIRED,)}


async def test_many_routes_at_once() -> None:
    """The bound is that of all routes together."""
    table = RouteTable()
    members = [one for number in range(MANY) for one in crowd(put(table, f"a{number}"), 1)]
    for number in range(MANY):
        table.remove(f"a{number}", Removal.DELETED)
    assert await all_end(members) == list(range(AT_ONCE, MANY + 1, AT_ONCE))


async def test_who_has_gone_meanwhile() -> None:
    """What ends by itself before its turn is not ended again: a connection may carry something else by then."""
    table = RouteTable()
    route = put(table)
    members = crowd(route)
    table.remove("a", Removal.DELETED)
    gone = next(iter(route.live))
    route.live.discard(gone)
    await all_end([member for member in members if member is not gone])
    assert not gone.reasons  # type: ignore[attr-defined]


async def test_what_begins_later() -> None:
    """A sandbox that is resumed while what was open on it ends keeps what comes then."""
    table = RouteTable()
    members = crowd(put(table))
    put(table, state=RouteState.PAUSED)
    (later,) = crowd(put(table), 1)
    await all_end(members)
    assert not later.reasons


async def test_what_a_request_has_become() -> None:
    """A tunnel whose request was open when the sandbox went ends like the request."""
    table = RouteTable()
    route = put(table)
    members = crowd(route)
    table.remove("a", Removal.DELETED)
    request = next(member for member in members if not member.reasons)
    route.live.discard(request)
    tunnel = Open()
    tunnel.since = request.since
    route.live.add(tunnel)
    await all_end([*(member for member in members if member is not request), tunnel])


async def test_keys() -> None:
    """What other keys have let in is left alone."""
    table = RouteTable()
    route = put(table)
    members, others = crowd(route, MANY, b"k"), crowd(route, MANY, b"other")
    table.revoke_keys(frozenset((b"k", b"l")))
    await all_end(members)
    assert ended(others) == 0
    assert route.live == set(others)


async def test_one_that_fails() -> None:
    """Whatever one connection makes of its end, the others have theirs."""
    table = RouteTable()
    route = put(table)
    route.live.update(Broken() for _ in range(MANY))
    members = crowd(route)
    table.remove("a", Removal.DELETED)
    await all_end(members)


async def test_bytes_of_those_that_wait() -> None:
    """What has moved is counted when the route goes, not when its last connection does."""
    table = RouteTable()
    crowd(put(table))
    table.remove("a", Removal.DELETED)
    assert table.retired_in >= MANY - AT_ONCE
