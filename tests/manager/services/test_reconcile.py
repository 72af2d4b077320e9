"""Runtime events → inventory and routes; what happened while nobody watched is put right."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.table import Removal, Resolution, RouteState
from manager.domain.errors import Unavailable
from manager.domain.sandbox import SandboxState
from manager.services.inventory import Change
from manager.services.reconcile import SLICE
from tests.manager.fake_runtime import FakeRuntime, running
from tests.manager.harness import START, House, open_house, until, wish


async def test_what_exists_is_adopted(tmp_path: Path) -> None:
    """After a restart every sandbox is routed again."""
    runtime = FakeRuntime()
    runtime.sandboxes = {name: running(name) for name in ("a", "b", "c")}
    async with open_house(tmp_path, runtime) as house:
        assert {route.id for route in house.table} == {b"a", b"b", b"c"}
        assert house.table.synced


async def test_not_in_step_until_the_first_answer(tmp_path: Path) -> None:
    """Before the runtime has answered the server is degraded and says so."""
    runtime = FakeRuntime()
    runtime.synced_at_start = False
    async with open_house(tmp_path, runtime) as house:
        assert house.services.degraded() is not None
        assert house.table.synced is False
        runtime.sync()
        assert house.services.degraded() is None
        assert house.table.synced


async def test_a_sandbox_that_goes_by_itself(house: House) -> None:
    """Its route is gone, as if it had been deleted here."""
    house.runtime.appear(running("a"))
    house.runtime.vanish("a")
    assert house.table.gone(b"a") is Removal.DELETED


async def test_a_sandbox_that_dies(house: House) -> None:
    """An exited container stays listed, and its route says stopped."""
    house.runtime.appear(running("a"))
    house.runtime.appear(running("a", state="Failed"))
    route = house.table.get(b"a")
    assert route is not None
    assert route.state is RouteState.STOPPED


async def test_what_went_during_an_outage(house: House) -> None:
    """After the next list it is gone, its facts too."""
    house.runtime.appear(running("a", expires_at=START + timedelta(hours=1)))
    await house.services.sandboxes.renew("a", START + timedelta(hours=2))
    house.runtime.lose()
    del house.runtime.sandboxes["a"]
    house.runtime.sync()
    await until(lambda: house.services.inventory.get("a") is None)
    house.runtime.sync()
    store = house.services.records
    await until(lambda: not house.services.inventory.stale_facts())
    assert await store.renewals.all() == {}


async def test_a_list_older_than_a_create_does_not_hide_it(house: House) -> None:
    """A sandbox missing from a list is asked for again before it is given up."""
    sandbox = await house.services.creation.create(wish())
    there = house.runtime.sandboxes.pop(sandbox.id)
    house.runtime.sync()
    house.runtime.sandboxes[sandbox.id] = there
    await until(lambda: house.runtime.calls["get"] > 0)
    assert house.table.get(sandbox.id.encode()) is not None


async def test_misses_are_resolved_while_out_of_step(house: House) -> None:
    """The gateway asks on a miss: found is published, nobody is not found, an outage is unavailable."""
    house.runtime.lose()
    house.runtime.sandboxes["a"] = running("a")
    assert await house.services.resolver.resolve("a") is Resolution.PUBLISHED
    assert house.table.get(b"a") is not None
    assert await house.services.resolver.resolve("b") is Resolution.NOT_FOUND
    house.runtime.fail("get", Unavailable("X", "down"))
    assert await house.services.resolver.resolve("c") is Resolution.UNAVAILABLE


async def test_own_addresses_are_known_while_it_lives(house: House) -> None:
    """The API refuses callers by them; an address that is free again is nobody's."""
    house.runtime.appear(running("a", own="10.0.0.9"))
    assert house.services.inventory.owns_address("10.0.0.9")
    house.runtime.appear(running("a", state="Terminated", own="10.0.0.9"))
    assert not house.services.inventory.owns_address("10.0.0.9")


@pytest.mark.parametrize("name", ["", "UPPER", "a/b", "ü", "x" * 37, "-a"])
async def test_what_calls_itself_a_sandbox(house: House, name: str) -> None:
    """Something with an id that no address can hold is left alone, and nobody stumbles over it."""
    house.runtime.appear(running(name))
    house.runtime.appear(running("good"))
    assert [route.id for route in house.table] == [b"good"]


async def test_one_broken_listener(house: House) -> None:
    """The others hear the news all the same."""
    heard: list[str] = []

    def broken(change: Change) -> None:
        raise ValueError("a bug")

    house.services.inventory.listen(broken)
    house.services.inventory.listen(lambda change: heard.append(change.sandbox_id))
    house.runtime.appear(running("a"))
    assert heard == ["a"]


async def test_long_lists_are_taken_in_slices(house: House) -> None:
    """Others get their turn in between, and only the whole of it counts as being in step."""
    house.runtime.lose()
    house.runtime.sandboxes = {f"box-{number}": running(f"box-{number}") for number in range(5 * SLICE)}
    house.runtime.sync()
    assert not house.table.synced
    await until(lambda: house.table.synced)
    assert len(house.table) == 5 * SLICE


async def test_news_during_a_long_list_win(house: House) -> None:
    """What happens while an old list is being taken is not undone by it."""
    house.runtime.lose()
    boxes = [running(f"box-{number}") for number in range(5 * SLICE)]
    house.runtime.sandboxes = {box.id: box for box in boxes}
    house.runtime.sync()
    house.runtime.vanish(boxes[-1].id)
    house.runtime.appear(running(boxes[-2].id, state="Paused"))
    await until(lambda: house.table.synced)
    assert house.services.inventory.get(boxes[-1].id) is None
    shown = house.services.inventory.get(boxes[-2].id)
    assert shown is not None
    assert shown.status.state is SandboxState.PAUSED


async def test_an_outage_during_a_long_list(house: House) -> None:
    """The list is given up; the next one counts."""
    house.runtime.lose()
    house.runtime.sandboxes = {f"box-{number}": running(f"box-{number}") for number in range(5 * SLICE)}
    house.runtime.sync()
    house.runtime.lose("again")
    await asyncio.sleep(0)
    assert not house.table.synced
    house.runtime.sync()
    await until(lambda: house.table.synced)
    assert len(house.table) == 5 * SLICE
