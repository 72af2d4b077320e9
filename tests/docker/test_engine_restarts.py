"""The Engine restarted under load, with and without live-restore: an Engine of our own, and what is told afterwards."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.domain.errors import ManagerError
from manager.domain.sandbox import EXECD_PORT, Sandbox, SandboxSpec, SandboxState
from manager.runtime.base import OutOfSync, Synced
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, http_get, make_settings
from tests.docker.own_engine import OwnEngine

pytestmark = pytest.mark.timeout(180)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
LOAD = 4


@pytest.fixture(params=[True, False], ids=["live-restore", "no-live-restore"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    """An Engine that may be killed."""
    if not OwnEngine.possible():
        pytest.skip("needs root, dockerd and ip")
    engine = OwnEngine(**{"live-restore": request.param})
    engine.live = request.param  # type: ignore[attr-defined]
    engine.start()
    engine.build_images()
    yield engine
    engine.close()


async def synced_after(events: Events, seen: int) -> tuple[Sandbox, ...]:
    """The first complete picture after the first `seen` events."""

    def again(event: Any) -> Synced | None:
        return event if isinstance(event, Synced) and events.all.index(event) >= seen else None

    return (await events.until(again)).sandboxes


async def test_an_engine_restarted_under_load(
    own: OwnEngine, started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The break is told, creates under way fail clearly or succeed, and afterwards what is told is what there is."""
    runtime, events = await started(
        make_settings(images[1], instance, tmp_path, docker={"host": own.url}), leftover_grace=0.0
    )
    kept = await runtime.create(spec(), print)
    load = [asyncio.ensure_future(runtime.create(spec(), lambda line: None)) for _ in range(LOAD)]
    await asyncio.sleep(0)
    await asyncio.to_thread(own.signal, signal.SIGTERM)
    outcomes = await asyncio.gather(*load, return_exceptions=True)
    assert all(isinstance(outcome, (Sandbox, ManagerError)) for outcome in outcomes), outcomes
    await events.until(lambda event: isinstance(event, OutOfSync))
    assert runtime.degraded() is not None

    seen = len(events.all)
    await asyncio.to_thread(own.start)
    told = {sandbox.id: sandbox for sandbox in await synced_after(events, seen)}
    assert runtime.degraded() is None
    if own.live:  # type: ignore[attr-defined]
        assert told[kept.id].status.state is SandboxState.RUNNING
        assert told[kept.id].uid == kept.uid
        address = (str(told[kept.id].addresses.dial_host), EXECD_PORT)
        assert (await http_get(address, "/ping"))[0] == 200
    else:
        assert told[kept.id].status.state in (SandboxState.TERMINATED, SandboxState.FAILED)
    assert {sandbox.id for sandbox in await runtime.list()} == set(told)

    fresh = await runtime.create(spec(), print)
    assert fresh.status.state is SandboxState.RUNNING
    for sandbox_id in (*told, fresh.id):
        assert await runtime.delete(sandbox_id)
    assert await runtime.list() == ()
