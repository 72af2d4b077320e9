"""Creating: admission, the route before the answer, and what a failure leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.table import RouteState
from manager.domain.errors import Failed, Invalid, ManagerError, NotFound, Unavailable
from manager.domain.sandbox import NetworkPolicy, Platform, SandboxState
from manager.services.filters import Paging, SandboxFilter
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import House, open_house, until, wish

BROKEN = Failed("DOCKER::SANDBOX_START_FAILED", "no space left on device")

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"entrypoint": ()}, "DOCKER::INVALID_ENTRYPOINT", "entrypoint"),
    ({"metadata": {"opensandbox.io/id": "x"}}, "SANDBOX::INVALID_METADATA_LABEL", "reserved"),
    ({"metadata": {"a": "b c"}}, "SANDBOX::INVALID_METADATA_LABEL", "'a'"),
    ({"extensions": {"access.renew.extend.seconds": "1"}}, "SANDBOX::INVALID_PARAMETER", "300 to 86400"),
    ({"extensions": {"poolRef": "p"}}, "SANDBOX::UNSUPPORTED_POOL_REF", "poolRef"),
    ({"platform": Platform("darwin", "arm64")}, "SANDBOX::INVALID_PARAMETER", "platform.os 'darwin'"),
    ({"platform": Platform("linux", "mips")}, "SANDBOX::INVALID_PARAMETER", "platform.arch 'mips'"),
    ({"timeout": 10**18}, "SANDBOX::INVALID_PARAMETER", "too large"),
    ({"secure_access": True}, "SANDBOX::INVALID_PARAMETER", "secureAccess"),
    ({"network_policy": NetworkPolicy()}, "SANDBOX::INVALID_PARAMETER", "egress.image"),
    ({"credential_proxy": True}, "SANDBOX::INVALID_PARAMETER", "requires networkPolicy"),
    ({"lifecycle_hooks": True}, "SANDBOX::API_NOT_SUPPORTED", "lifecycle"),
    ({"template_id": "tpl-1"}, "SANDBOX::API_NOT_SUPPORTED", "templateId"),
]


async def test_the_route_is_live_when_create_returns(house: House) -> None:
    """No caller waits for an event after create."""
    sandbox = await house.services.creation.create(wish())
    route = house.table.get(sandbox.id.encode())
    assert route is not None
    assert route.state is RouteState.RUNNING
    assert route.reach.host == "10.9.0.2"


@pytest.mark.parametrize(("change", "code", "words"), REFUSED)
async def test_refused_requests_create_nothing(house: House, change: dict[str, Any], code: str, words: str) -> None:
    """Each broken rule has its code and names what is wrong; the runtime is not asked and no record is left."""
    with pytest.raises(Invalid, match=words.replace("(", r"\(")) as refused:
        await house.services.creation.create(wish(**change))
    assert refused.value.code == code
    assert house.runtime.calls["create"] == 0
    assert len(house.services.inventory) == 0


async def test_the_longest_timeout_is_configurable(tmp_path: Path) -> None:
    """A create above server.max_sandbox_timeout_seconds is refused with the limit."""
    async with open_house(tmp_path, server={"max_sandbox_timeout_seconds": 120}) as house:
        with pytest.raises(Invalid, match="maximum of 120s"):
            await house.services.creation.create(wish(timeout=121))


async def test_what_the_runtime_refuses_leaves_no_record(house: House) -> None:
    """A refusal is the caller's business, not a failed sandbox."""
    house.runtime.fail("check", Invalid("SANDBOX::INVALID_PARAMETER", "gpu: none here"))
    with pytest.raises(Invalid, match="gpu"):
        await house.services.creation.create(wish())
    assert len(house.services.inventory) == 0


async def test_a_failed_create_stays_visible_as_failed(house: House) -> None:
    """The caller who lost the answer finds the reason under the id; the gateway has no route for it."""
    house.runtime.fail("create", BROKEN)
    with pytest.raises(Failed):
        await house.services.creation.create(wish(metadata={"team": "x"}))
    page = await house.services.sandboxes.list(SandboxFilter(), Paging())
    (failed,) = page.items
    assert (failed.status.state, failed.status.reason) == (SandboxState.FAILED, "PROVISIONING_ERROR")
    assert failed.status.message == "no space left on device"
    assert failed.metadata == {"team": "x"}
    assert house.table.get(failed.id.encode()) is None


async def test_the_record_of_a_failure_ends(house: House) -> None:
    """After PENDING_FAILURE_TTL it is gone, from the store too."""
    house.runtime.fail("create", BROKEN)
    with pytest.raises(Failed):
        await house.services.creation.create(wish())
    house.clock.move(3599)
    assert house.services.expiry.check() == []
    house.clock.move(1)
    await asyncio.gather(*house.services.expiry.check())
    assert len(house.services.inventory) == 0
    assert await house.services.records.failures.all() == []


async def test_the_record_of_a_failure_survives_a_restart(tmp_path: Path) -> None:
    """The same id answers Failed after the server was started again."""
    runtime = FakeRuntime()
    async with open_house(tmp_path, runtime) as house:
        runtime.fail("create", BROKEN)
        with pytest.raises(Failed):
            await house.services.creation.create(wish())
        (failed,) = house.services.inventory.newest_first()
    async with open_house(tmp_path, runtime) as house:
        assert (await house.services.sandboxes.get(failed.id)).status == failed.status


async def test_a_failure_can_be_deleted(house: House) -> None:
    """Deleting the record asks the runtime nothing."""
    house.runtime.fail("create", BROKEN)
    with pytest.raises(Failed):
        await house.services.creation.create(wish())
    (failed,) = house.services.inventory.newest_first()
    await house.services.sandboxes.delete(failed.id)
    assert house.runtime.calls["delete"] == 0
    assert len(house.services.inventory) == 0


async def test_an_unknown_error_is_a_failure_without_details(house: House) -> None:
    """A bug in the runtime leaves a Failed record that gives nothing away."""
    house.runtime.fail("create", ValueError("secret detail"))
    with pytest.raises(ValueError, match="secret detail"):
        await house.services.creation.create(wish())
    (failed,) = house.services.inventory.newest_first()
    assert "secret" not in (failed.status.message or "")


async def test_a_creation_shows_as_pending_with_its_progress(house: House) -> None:
    """Whoever asks meanwhile sees Pending and what is being done; the gateway knows it is starting."""
    gate = house.runtime.hold("create")
    pending = await house.services.creation.begin(wish())
    await until(lambda: house.runtime.calls["create"] == 1)
    shown = await house.services.sandboxes.get(pending.id)
    assert (shown.status.state, shown.status.message) == (SandboxState.PENDING, "pulling image:1")
    route = house.table.get(pending.id.encode())
    assert route is not None
    assert route.state is RouteState.STARTING
    gate.set()
    await until(lambda: house.table.get(pending.id.encode()).state is RouteState.RUNNING)  # type: ignore[union-attr]


async def test_a_caller_who_leaves_does_not_stop_the_create(house: House) -> None:
    """The sandbox comes into being and is listed."""
    gate = house.runtime.hold("create")
    caller = asyncio.create_task(house.services.creation.create(wish()))
    await until(lambda: house.runtime.calls["create"] == 1)
    caller.cancel()
    gate.set()
    await until(lambda: len(house.runtime.sandboxes) == 1)
    await until(lambda: all(s.status.state is SandboxState.RUNNING for s in house.services.inventory.newest_first()))


async def test_deleting_while_it_is_being_created(house: House) -> None:
    """The deletion is answered at once, and kept when the creation ends."""
    gate = house.runtime.hold("create")
    pending = await house.services.creation.begin(wish())
    await house.services.sandboxes.delete(pending.id)
    for attempt in (house.services.sandboxes.get, house.services.sandboxes.delete):
        with pytest.raises(NotFound):
            await attempt(pending.id)
    gate.set()
    await until(lambda: not house.services.inventory.is_creating(pending.id))
    assert house.runtime.sandboxes == {}
    assert await house.services.records.pending_deletes.all() == set()
    assert len(house.services.inventory) == 0


async def test_a_promised_deletion_survives_a_crash(tmp_path: Path) -> None:
    """The server dies between the promise and the end of the creation: the next one deletes it."""
    runtime = FakeRuntime()
    async with open_house(tmp_path, runtime) as house:
        sandbox = await house.services.creation.create(wish())
        await house.services.records.pending_deletes.put(sandbox.id)
    async with open_house(tmp_path, runtime) as house:
        await until(lambda: not runtime.sandboxes)
        with pytest.raises(NotFound):
            await house.services.sandboxes.get(sandbox.id)


async def test_nothing_is_begun_while_draining(house: House) -> None:
    """A server that stops refuses creates and says when to come back."""
    house.services.drain()
    with pytest.raises(Unavailable) as refused:
        await house.services.creation.create(wish())
    assert refused.value.retry_after is not None


async def test_64_creates_at_once(house: House) -> None:
    """Each gets its own id, and all are there."""
    made = await asyncio.gather(*(house.services.creation.create(wish()) for _ in range(64)))
    assert len({sandbox.id for sandbox in made}) == 64
    assert len(house.table) == 64


async def test_64_failing_creates_at_once(house: House) -> None:
    """Failures do not disturb their neighbours."""
    for _ in range(32):
        house.runtime.fail("create", BROKEN)
    made = await asyncio.gather(*(house.services.creation.create(wish()) for _ in range(64)), return_exceptions=True)
    assert sum(isinstance(result, ManagerError) for result in made) == 32
    assert len(house.table) == 32
