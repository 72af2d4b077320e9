"""Two hundred sandboxes, eight at a time: afterwards there is as much of everything as before."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import docker
import pytest

from manager.domain.sandbox import NamedVolume, SandboxSpec, VolumeMount
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, eventually, make_settings

SANDBOXES, AT_ONCE, WARM_UP = 200, 8, 16
GROWTH = 16 * 1024 * 1024
"""Bytes of memory that allocators may keep; a leak of a sandbox's inspect data would be three times that."""
POOLED = 16
"""Threads, each with a connection, that pools may still have started after the warm-up."""
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]


def resident() -> int:
    """Memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def objects(engine: docker.APIClient, instance: str) -> dict[str, int]:
    """How many objects of this instance the Engine has."""
    mine = {"label": f"opensandbox.io/instance={instance}"}
    return {
        "containers": len(engine.containers(all=True, filters=mine)),
        "volumes": len(engine.volumes(filters=mine)["Volumes"] or []),
        "networks": len(engine.networks(names=[f"^{instance}$"])),
    }


@pytest.mark.timeout(600)
async def test_nothing_is_left_of_many_sandboxes(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec, engine: docker.APIClient
) -> None:
    """Containers, volumes, networks, ports, threads, descriptors, memory and what we remember."""
    name = f"{instance}-many"
    docker = {"publish_host": "127.0.0.1", "instance": name, "network_name": name}
    ingress = {"mode": "direct", "gateway": {}}
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, ingress=ingress, docker=docker))

    async def one() -> None:
        request = spec()
        source = NamedVolume(f"{name}-{request.id}", delete_on_termination=True)
        request = spec(id=request.id, volumes=(VolumeMount("data", "/data", source),))
        await runtime.create(request, lambda line: None)
        assert await runtime.delete(request.id)

    async def many(count: int) -> None:
        for _ in range(count // AT_ONCE):
            await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        gc.collect()

    await many(WARM_UP)
    before = objects(engine, name), len(os.listdir("/proc/self/fd")), threading.active_count(), resident()
    await many(SANDBOXES)
    after = objects(engine, name), len(os.listdir("/proc/self/fd")), threading.active_count(), resident()
    assert after[0] == before[0] == {"containers": 0, "volumes": 0, "networks": 1}
    assert after[1] <= before[1] + POOLED
    assert after[2] <= before[2] + POOLED
    assert after[3] - before[3] < GROWTH
    assert runtime._tools.ports._held == set()
    await eventually(lambda: not runtime._watch._looks and not runtime._making)
    assert await runtime.list() == ()
    assert runtime._cache._known == {}
