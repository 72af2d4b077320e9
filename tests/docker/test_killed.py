"""kill -9 before every change that create, delete and snapshot make: afterwards nothing is lost and nothing leaks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain.sandbox import SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import Events, eventually
from tests.docker.test_egress import egress_image

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
ROOT = Path(__file__).parents[2]
CREATE, DELETE, SNAPSHOT = 8, 5, 1
"""Changes that each action makes at least; one more than that has to be `done`, or a step was added: count again."""

__all__ = ["egress_image"]


@pytest.fixture
def order(images: tuple[str, str], instance: str, tmp_path: Path, egress_image: str) -> dict[str, Any]:
    """What the victim is told."""
    name = str(uuid.uuid4())
    document = {
        "runtime": {"type": "docker", "execd_image": images[1]},
        "docker": {"network_mode": "bridge", "instance": instance},
        "ingress": {"mode": "gateway", "gateway": {"address": "127.0.0.1:8080", "route": {"mode": "header"}}},
        "egress": {"image": egress_image},
        "store": {"path": str(tmp_path / "state" / "gateway.db")},
    }
    return {"settings": document, "id": name, "image": images[0], "volume": f"{instance}-{name[:8]}"}


def run(order: dict[str, Any], action: str, survived: int) -> bool:
    """Whether the action was done before its process died."""
    told = json.dumps({**order, "action": action, "survived": survived})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("victim.py")), told]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, -9), ended.stderr[-2000:]
    return "done" in ended.stdout


def left(engine: docker.APIClient, order: dict[str, Any]) -> list[str]:
    """Names of everything on the Engine that belongs to this sandbox."""
    containers = engine.containers(all=True, filters={"name": order["id"]})
    volumes = engine.volumes()["Volumes"] or []
    names = [entry["Names"][0] for entry in containers] + [volume["Name"] for volume in volumes]
    return [name for name in names if order["id"] in name or name == order["volume"]]


async def after(started: Started, order: dict[str, Any]) -> tuple[DockerRuntime, Events]:
    """The next life of the server, which takes nothing for still in the making."""
    return await started(Settings.model_validate(order["settings"]), leftover_grace=0.0)


@pytest.mark.parametrize("survived", range(CREATE + 1))
async def test_killed_amid_create(
    started: Started, order: dict[str, Any], engine: docker.APIClient, survived: int
) -> None:
    """Afterwards there is a whole sandbox or none, and its names are free once it is deleted."""
    done = await asyncio.to_thread(run, order, "create", survived)
    assert done == (survived >= CREATE - 1)
    runtime, events = await after(started, order)
    found = [sandbox for sandbox in (await events.synced()).sandboxes if sandbox.id == order["id"]]
    if found:
        assert found[0].status.state is SandboxState.RUNNING
        assert await runtime.delete(order["id"])
    await eventually(lambda: not left(engine, order))


@pytest.mark.parametrize("survived", range(DELETE))
async def test_killed_amid_delete(
    started: Started, order: dict[str, Any], engine: docker.APIClient, survived: int
) -> None:
    """Afterwards it is gone with everything, or it is there and can be deleted."""
    done = await asyncio.to_thread(run, order, "delete", survived)
    assert done == (survived == DELETE - 1)
    runtime, events = await after(started, order)
    if any(sandbox.id == order["id"] for sandbox in (await events.synced()).sandboxes):
        assert await runtime.delete(order["id"])
    await eventually(lambda: not left(engine, order))


@pytest.mark.parametrize("survived", range(SNAPSHOT + 1))
async def test_killed_amid_snapshot(
    started: Started, order: dict[str, Any], engine: docker.APIClient, survived: int
) -> None:
    """The sandbox goes on, and whether there is a snapshot can be asked."""
    done = await asyncio.to_thread(run, order, "snapshot", survived)
    runtime, _ = await after(started, order)
    found = await runtime.get(order["id"])
    assert found is not None
    assert found.status.state is SandboxState.RUNNING
    image = runtime.snapshot_image(order["id"])
    assert await runtime.has_snapshot(image) == done
    await runtime.delete(order["id"])
    await runtime.delete_snapshot(image)
    await eventually(lambda: not left(engine, order))
