"""An Engine whose disk is full: said as that, and nothing is left of what was begun. The disk is a small mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import docker
import pytest

from manager.api.errors import status_of
from manager.domain import errors
from manager.domain.sandbox import SandboxSpec, SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, make_settings
from tests.docker.own_engine import OwnEngine
from tests.docker.registries import AUTH, large_image, pushed

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
DISK = "160m"
MEGABYTES = 12


@pytest.fixture
def small() -> Iterator[tuple[OwnEngine, Path]]:
    """An Engine on a small disk, and a file that fills the disk as long as it is there."""
    if not OwnEngine.possible():
        pytest.skip("needs root, dockerd and ip")
    engine = OwnEngine()
    data = engine.home / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(data)], check=True)
    engine.start()
    engine.build_images()
    yield engine, data / "ballast"
    engine.close()


def fill(ballast: Path) -> None:
    """Writes until nothing more goes in."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)


@pytest.fixture
def heavy(registry: str, engine: docker.APIClient, images: tuple[str, str]) -> Iterator[str]:
    """The name of an image that is larger than what is left of the disk."""
    image = large_image(engine, images[1], MEGABYTES)
    with pushed(engine, image, registry) as name:
        yield name


async def test_a_disk_that_fills_during_a_pull(
    small: tuple[OwnEngine, Path],
    heavy: str,
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    spec: Spec,
) -> None:
    """The pull begins and comes to its end before the image does; with more space it is pulled."""
    engine, ballast = small
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, docker={"host": engine.url}))
    await runtime._execd.kit(None)
    fill(ballast)
    os.truncate(ballast, ballast.stat().st_size - (MEGABYTES << 19))
    asked = spec(image=heavy, image_auth=AUTH)
    with pytest.raises(errors.Failed) as raised:
        await runtime.create(asked, print)
    assert (status_of(raised.value), raised.value.code) == (500, "DOCKER::ENGINE_DISK_FULL")
    assert heavy in raised.value.message
    ballast.unlink()
    made = await runtime.create(asked, print)
    assert made.status.state is SandboxState.RUNNING
    await runtime.delete(made.id)


async def test_a_full_disk_is_told_and_survived(
    small: tuple[OwnEngine, Path], started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The create fails by name; once there is space again the next one succeeds."""
    engine, ballast = small
    settings = make_settings(images[1], instance, tmp_path, docker={"host": engine.url})
    runtime, _ = await started(settings)
    await runtime._execd.kit(None)
    fill(ballast)
    asked = spec()
    with pytest.raises(errors.Failed) as raised:
        await runtime.create(asked, print)
    assert raised.value.code == "DOCKER::ENGINE_DISK_FULL"
    ballast.unlink()
    assert await runtime.get(asked.id) is None
    made = await runtime.create(spec(), print)
    assert made.status.state is SandboxState.RUNNING
