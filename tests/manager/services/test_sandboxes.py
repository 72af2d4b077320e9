"""Operations on sandboxes: each against the inventory, the store, the route table and a runtime that misbehaves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.table import Removal, RouteState
from manager.domain.codes import STORE_UNAVAILABLE
from manager.domain.errors import Conflict, Failed, Invalid, NotFound, Unavailable
from manager.domain.sandbox import Sandbox, SandboxState
from manager.services.filters import Paging, SandboxFilter
from tests.manager.fake_runtime import FakeRuntime, running
from tests.manager.harness import START, House, open_house, until, wish

EVERYTHING = SandboxFilter()
LATER = START + timedelta(hours=1)


async def made(house: House, **changes: object) -> Sandbox:
    return await house.services.creation.create(wish(**changes))


@pytest.mark.defect(2)
@pytest.mark.defect(11)
async def test_get_asks_memory_only(house: House) -> None:
    """While events are live the runtime is not bothered."""
    sandbox = await made(house)
    assert (await house.services.sandboxes.get(sandbox.id)).id == sandbox.id
    await house.services.sandboxes.list(EVERYTHING, Paging())
    assert house.runtime.calls["get"] == house.runtime.calls["list"] == 0


async def test_reads_go_to_the_runtime_while_events_are_broken(house: House) -> None:
    """What changed meanwhile is seen, and the gateway is told not to trust a miss."""
    sandbox = await made(house)
    house.runtime.lose()
    del house.runtime.sandboxes[sandbox.id]
    house.runtime.sandboxes["new"] = running("new")
    assert house.table.synced is False
    with pytest.raises(NotFound):
        await house.services.sandboxes.get(sandbox.id)
    page = await house.services.sandboxes.list(EVERYTHING, Paging())
    assert [item.id for item in page.items] == ["new"]


async def test_a_runtime_that_does_not_answer_is_unavailable(house: House) -> None:
    """A read that cannot be trusted fails instead of guessing."""
    house.runtime.lose()
    house.runtime.fail("get", Unavailable("DOCKER::UNAVAILABLE", "the Engine does not answer"))
    with pytest.raises(Unavailable):
        await house.services.sandboxes.get("some-id")


async def test_delete_removes_route_runtime_and_facts(house: House) -> None:
    """Nothing is left, and the second delete is 404."""
    sandbox = await made(house)
    await house.services.sandboxes.renew(sandbox.id, LATER)
    await house.services.sandboxes.delete(sandbox.id)
    assert house.runtime.sandboxes == {}
    assert house.table.gone(sandbox.id.encode()) is Removal.DELETED
    assert await house.services.records.renewals.all() == {}
    with pytest.raises(NotFound):
        await house.services.sandboxes.delete(sandbox.id)


async def test_the_route_goes_when_the_deletion_begins(house: House) -> None:
    """A slow runtime does not keep the address alive; if the deletion fails the route comes back."""
    sandbox = await made(house)
    gate = house.runtime.hold("delete")
    house.runtime.fail("delete", Failed("DOCKER::SANDBOX_DELETE_FAILED", "device busy"))
    work = asyncio.create_task(house.services.sandboxes.delete(sandbox.id))
    await until(lambda: house.runtime.calls["delete"] == 1)
    assert house.table.get(sandbox.id.encode()) is None
    assert (await house.services.sandboxes.get(sandbox.id)).status.state is SandboxState.STOPPING
    gate.set()
    with pytest.raises(Failed):
        await work
    assert house.table.get(sandbox.id.encode()) is not None
    assert (await house.services.sandboxes.get(sandbox.id)).status.state is SandboxState.RUNNING


async def test_late_news_do_not_bring_a_deleted_sandbox_back(house: House) -> None:
    """An event that was on its way when the sandbox was deleted changes nothing."""
    sandbox = await made(house)
    await house.services.sandboxes.delete(sandbox.id)
    house.runtime.appear(sandbox)
    assert house.services.inventory.get(sandbox.id) is None


async def test_pause_and_resume(house: House) -> None:
    """The state and the route follow."""
    sandbox = await made(house)
    await house.services.sandboxes.pause(sandbox.id)
    assert (await house.services.sandboxes.get(sandbox.id)).status.state is SandboxState.PAUSED
    route = house.table.get(sandbox.id.encode())
    assert route is not None
    assert route.state is RouteState.PAUSED
    await house.services.sandboxes.resume(sandbox.id)
    assert (await house.services.sandboxes.get(sandbox.id)).status.state is SandboxState.RUNNING


async def test_pause_and_resume_in_the_wrong_state(house: House) -> None:
    """409 with the code clients know and the state in words."""
    sandbox = await made(house)
    with pytest.raises(Conflict, match="is Running") as refused:
        await house.services.sandboxes.resume(sandbox.id)
    assert refused.value.code == "DOCKER::SANDBOX_NOT_PAUSED"
    await house.services.sandboxes.pause(sandbox.id)
    with pytest.raises(Conflict, match="is Paused") as refused:
        await house.services.sandboxes.pause(sandbox.id)
    assert refused.value.code == "DOCKER::SANDBOX_NOT_RUNNING"
    with pytest.raises(NotFound):
        await house.services.sandboxes.pause("nobody")


async def test_operations_on_one_sandbox_do_not_overlap(house: House) -> None:
    """While a pause is under way another and a resume are 409 with the state; a delete waits for it."""
    sandbox = await made(house)
    gate = house.runtime.hold("pause")
    pausing = asyncio.create_task(house.services.sandboxes.pause(sandbox.id))
    await until(lambda: house.runtime.calls["pause"] == 1)
    with pytest.raises(Conflict, match="is Pausing"):
        await house.services.sandboxes.pause(sandbox.id)
    with pytest.raises(Conflict, match="is Pausing"):
        await house.services.sandboxes.resume(sandbox.id)
    deleting = asyncio.create_task(house.services.sandboxes.delete(sandbox.id))
    gate.set()
    await asyncio.gather(pausing, deleting)
    assert house.runtime.sandboxes == {}


async def test_a_failed_pause_leaves_it_running(house: House) -> None:
    """The state shown is the runtime's again."""
    sandbox = await made(house)
    house.runtime.fail("pause", Failed("DOCKER::SANDBOX_PAUSE_FAILED", "cgroup frozen"))
    with pytest.raises(Failed):
        await house.services.sandboxes.pause(sandbox.id)
    assert (await house.services.sandboxes.get(sandbox.id)).status.state is SandboxState.RUNNING


async def test_renewal_survives_a_restart(tmp_path: Path) -> None:
    """The renewed expiry holds, not the one the runtime's label still says."""
    runtime = FakeRuntime()
    async with open_house(tmp_path, runtime) as house:
        sandbox = await made(house)
        await house.services.sandboxes.renew(sandbox.id, LATER)
    async with open_house(tmp_path, runtime) as house:
        assert (await house.services.sandboxes.get(sandbox.id)).expires_at == LATER


async def test_what_cannot_be_renewed(house: House) -> None:
    """The past is 400, no expiry is 409, nobody is 404."""
    sandbox, manual = await made(house), await made(house, timeout=None)
    with pytest.raises(Invalid, match="in the future"):
        await house.services.sandboxes.renew(sandbox.id, START)
    with pytest.raises(Conflict, match="automatic expiration"):
        await house.services.sandboxes.renew(manual.id, LATER)
    with pytest.raises(NotFound):
        await house.services.sandboxes.renew("nobody", START)


async def test_a_renewal_that_cannot_be_kept_is_not_promised(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store does not work the caller hears it and the old expiry holds."""
    sandbox = await made(house)

    async def refuse(*_: object) -> None:
        raise Unavailable(STORE_UNAVAILABLE, "its disk is full")

    monkeypatch.setattr(house.services.records.renewals, "put", refuse)
    with pytest.raises(Unavailable):
        await house.services.sandboxes.renew(sandbox.id, LATER)
    assert (await house.services.sandboxes.get(sandbox.id)).expires_at == sandbox.expires_at


async def test_patched_metadata_survives_a_restart(tmp_path: Path) -> None:
    """Keys are set and deleted, and found again by the list."""
    runtime = FakeRuntime()
    async with open_house(tmp_path, runtime) as house:
        sandbox = await made(house, metadata={"a": "1", "b": "2"})
        patched = await house.services.sandboxes.patch_metadata(sandbox.id, {"a": None, "c": "3", "absent": None})
        assert patched.metadata == {"b": "2", "c": "3"}
    async with open_house(tmp_path, runtime) as house:
        page = await house.services.sandboxes.list(SandboxFilter(metadata={"c": "3"}), Paging())
        assert [item.metadata for item in page.items] == [{"b": "2", "c": "3"}]


@pytest.mark.defect(9)
@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"opensandbox.io/x": None}, "SANDBOX::INVALID_METADATA_LABEL"),
        ({"bad key": "x"}, "SANDBOX::INVALID_METADATA_LABEL"),
        ({"a": "bad value"}, "SANDBOX::INVALID_METADATA_LABEL"),
    ],
)
async def test_patches_that_are_refused(house: House, patch: dict[str, str | None], code: str) -> None:
    """A reserved key has the same code as any other bad one, prefix and all, as a create does."""
    sandbox = await made(house)
    with pytest.raises(Invalid) as refused:
        await house.services.sandboxes.patch_metadata(sandbox.id, patch)
    assert refused.value.code == code


async def test_patches_at_once_lose_nothing(house: House) -> None:
    """Each key of 32 concurrent patches is there."""
    sandbox = await made(house)
    await asyncio.gather(
        *(house.services.sandboxes.patch_metadata(sandbox.id, {f"k{number}": "v"}) for number in range(32))
    )
    assert len((await house.services.sandboxes.get(sandbox.id)).metadata) == 32


async def test_lists_are_filtered_paged_and_newest_first(house: House) -> None:
    """States are alternatives without case, metadata must match, a page beyond the end is empty."""
    for number in range(5):
        house.clock.move(1)
        await made(house, metadata={"n": str(number), "all": "y"})
    page = await house.services.sandboxes.list(SandboxFilter(metadata={"all": "y"}), Paging(2, 2))
    assert [item.metadata["n"] for item in page.items] == ["2", "1"]
    assert (page.total, page.pages, page.has_next) == (5, 3, True)
    assert (await house.services.sandboxes.list(EVERYTHING, Paging(9, 2))).items == ()
    assert (await house.services.sandboxes.list(SandboxFilter(frozenset({"running", "x"})), Paging())).total == 5
    assert (await house.services.sandboxes.list(SandboxFilter(frozenset({"paused"})), Paging())).pages == 0


async def test_lists_during_deletes(house: House) -> None:
    """Every list is consistent while sandboxes go."""
    boxes = [await made(house) for _ in range(40)]
    deletions = asyncio.gather(*(house.services.sandboxes.delete(box.id) for box in boxes))
    while not deletions.done():
        page = await house.services.sandboxes.list(EVERYTHING, Paging(1, 200))
        assert len(page.items) == page.total
        await asyncio.sleep(0)
    assert len(house.services.inventory) == 0
