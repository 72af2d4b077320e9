"""kill -9 before every change that an action makes, on the Engine and in the store: afterwards nothing is lost, nothing
leaks, and names are free again.

`STEPS` counts the changes of each action, so a new step needs its row here before the tests are content.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain.sandbox import Sandbox, SandboxState
from manager.domain.snapshot import Snapshot, SnapshotState
from manager.services.filters import Paging, SandboxFilter
from manager.services.snapshots import SnapshotFilter
from manager.services.wiring import Services
from manager.settings.model import Settings
from tests.docker.conftest import remove_all
from tests.docker.harness import eventually
from tests.docker.test_egress import egress_image
from tests.docker.victim import life, until

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
STEPS = {"create": 15, "delete": 4, "snapshot": 3, "delete snapshot": 3, "restore": 6}
POOLED = 7
"""A pooled create refills its pool at the same time, so where exactly it dies is not the same each time."""
POINTS = [(action, survived) for action, steps in STEPS.items() for survived in range(steps + 1)]
POINTS += [("pooled create", survived) for survived in range(POOLED)]

__all__ = ["egress_image"]


@pytest.fixture
def order(
    images: tuple[str, str], engine: docker.APIClient, tmp_path: Path, egress_image: str
) -> Iterator[dict[str, Any]]:
    """What the victim is told: settings with an instance of its own."""
    instance = f"killed-{uuid.uuid4().hex[:8]}"
    document = {
        "runtime": {"type": "docker", "execd_image": images[1]},
        "docker": {"network_mode": "bridge", "instance": instance},
        "ingress": {"mode": "gateway", "gateway": {"address": "127.0.0.1:8080", "route": {"mode": "header"}}},
        "egress": {"image": egress_image},
        "store": {"path": str(tmp_path / "state" / "gateway.db")},
    }
    yield {"settings": document, "image": images[0], "volume": f"{instance}-data", "instance": instance}
    remove_all(engine, instance)


def run(order: dict[str, Any], action: str, survived: int) -> tuple[str, bool]:
    """What the caller was told before the process died, and whether the action was done."""
    if action == "pooled create":
        order["settings"]["docker"]["pools"] = {"warm": {"image": order["image"], "size": 1}}
    told = json.dumps({**order, "action": action, "survived": survived})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("victim.py")), told]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, -9), ended.stderr[-2000:]
    words = ended.stdout.split()
    return "".join(words[:1]), "done" in words


def left(engine: docker.APIClient, instance: str) -> list[str]:
    """Everything on the Engine that belongs to this server."""
    mine = {"label": f"opensandbox.io/instance={instance}"}
    containers = [entry["Names"][0] for entry in engine.containers(all=True, filters=mine)]
    volumes = [volume["Name"] for volume in engine.volumes(filters=mine)["Volumes"] or []]
    images = engine.images(filters={"label": f"opensandbox.io/snapshot={instance}"})
    return [*containers, *volumes, *(entry["Id"] for entry in images)]


async def shown(services: Services) -> tuple[Sandbox, ...]:
    """What the next life lists."""
    return (await services.sandboxes.list(SandboxFilter(), Paging())).items


async def snapshots(services: Services) -> tuple[Snapshot, ...]:
    """The snapshots it lists, once none is on the way."""

    def items() -> tuple[Snapshot, ...]:
        return services.snapshots.list(SnapshotFilter(), Paging()).items

    await until(lambda: all(item.state in (SnapshotState.READY, SnapshotState.FAILED) for item in items()), PATIENCE)
    return items()


@pytest.mark.parametrize(("action", "survived"), POINTS)
async def test_killed(order: dict[str, Any], engine: docker.APIClient, action: str, survived: int) -> None:
    """What was there is there; what was begun is whole, failed or not there; all of it can be deleted."""
    told, done = await asyncio.to_thread(run, order, action, survived)
    assert action not in STEPS or done == (survived == STEPS[action])
    settings = Settings.model_validate({**order["settings"], "docker": {**order["settings"]["docker"], "pools": {}}})
    async with life(settings, grace=0.0) as services:
        found, kept = await shown(services), await snapshots(services)
        by_id = {sandbox.id: sandbox.status.state for sandbox in found}
        assert set(by_id.values()) <= {SandboxState.RUNNING, SandboxState.FAILED}
        check(action, told, done, by_id, kept)
        await asyncio.gather(*(services.sandboxes.delete(sandbox.id) for sandbox in found))
        await asyncio.gather(*(services.snapshots.delete(item.id) for item in kept))
        await eventually(lambda: not left(engine, order["instance"]))
        assert (await shown(services), await snapshots(services)) == ((), ())


def check(action: str, told: str, done: bool, states: dict[str, SandboxState], kept: tuple[Snapshot, ...]) -> None:
    """What has to be there after this action."""
    sources = 1 if action in ("snapshot", "delete snapshot", "restore") else 0
    running = [one for one, state in states.items() if state is SandboxState.RUNNING]
    if action in ("create", "restore", "pooled create"):
        assert not told or told in states
        assert not done or told in running
    if action == "delete":
        assert len(states) == 0 if done else set(states.values()) <= {SandboxState.RUNNING}
    else:
        assert len(running) >= sources
    if action in ("restore", "snapshot") and (done or action == "restore"):
        assert [item.state for item in kept] == [SnapshotState.READY]
    if action == "delete snapshot" and done:
        assert kept == ()
