"""The real Engine: an instance label of our own for each session, and everything that carries it removed at the end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from manager.domain.sandbox import Sandbox, SandboxSpec
from manager.runtime.base import LogQuery
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker import registries
from tests.docker.harness import Events, make_settings
from tests.engine import api_client

BUILD = Path(__file__).parents[1] / "images" / "build"
INSTANCE = "opensandbox.io/instance"


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.APIClient]:
    """An SDK client of the tests' own, for looking behind the runtime's back."""
    client = api_client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def images() -> tuple[str, str]:
    """Names of the sandbox image and the execd image, built if need be."""
    built = subprocess.run([str(BUILD)], capture_output=True, text=True, check=True)
    sandbox, execd = built.stdout.split()
    return sandbox, execd


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that asks for a password."""
    if not registries.possible():
        pytest.skip("needs the packages docker-registry and apache2-utils")
    with registries.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def private(registry: str, engine: docker.APIClient, images: tuple[str, str]) -> Iterator[str]:
    """An image that is in the registry and not on the Engine."""
    with registries.pushed(engine, images[1], registry) as name:
        yield name


@pytest.fixture(scope="session")
def instance(engine: docker.APIClient) -> Iterator[str]:
    """The instance label of this session; what carries it is removed afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    for owner in (name, f"{name}-pool", f"{name}-many"):
        remove_all(engine, owner)


def remove_all(engine: docker.APIClient, instance: str) -> None:
    """Removes whatever carries this instance label, and the network of its name."""
    mine = {"label": f"{INSTANCE}={instance}"}
    for container in engine.containers(all=True, filters=mine):
        with contextlib.suppress(docker.errors.APIError):  # a runtime that still runs may be removing it too
            engine.remove_container(container["Id"], v=True, force=True)
    for volume in engine.volumes(filters=mine)["Volumes"] or []:
        with contextlib.suppress(docker.errors.APIError):
            engine.remove_volume(volume["Name"])
    for image in engine.images(filters={"label": f"opensandbox.io/snapshot={instance}"}):
        engine.remove_image(image["Id"], force=True)
    for network in engine.networks(names=[f"^{instance}$"]):
        engine.remove_network(network["Id"])


@pytest.fixture
def settings(images: tuple[str, str], instance: str, tmp_path: Path) -> Settings:
    """Gateway mode on the bridge."""
    return make_settings(images[1], instance, tmp_path)


@pytest.fixture
async def started(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[tuple[DockerRuntime, Events]]]]:
    """Starts runtimes and stops them at the end; what they told is in their `Events`."""
    runtimes: list[DockerRuntime] = []

    async def start(changed: Settings | None = None, **options: Any) -> tuple[DockerRuntime, Events]:
        runtime = DockerRuntime(changed or settings, **options)
        runtimes.append(runtime)
        events = Events()
        await runtime.start(events.take)
        await events.synced()
        return runtime, events

    yield start
    for runtime in runtimes:
        await runtime.stop()


@pytest.fixture
async def runtime(started: Callable[..., Awaitable[tuple[DockerRuntime, Events]]]) -> AsyncIterator[DockerRuntime]:
    """A runtime in step with the Engine; sandboxes that a test leaves are deleted."""
    runtime, events = await started()
    runtime.events = events  # type: ignore[attr-defined]
    yield runtime
    await asyncio.gather(*(runtime.delete(sandbox.id) for sandbox in await runtime.list()))


@pytest.fixture
def spec(images: tuple[str, str]) -> Callable[..., SandboxSpec]:
    """Makes specs of the test image with a lifetime of ten minutes."""

    def make(**changes: Any) -> SandboxSpec:
        now = datetime.now(UTC)
        fields: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "created_at": now,
            "expires_at": now + timedelta(minutes=10),
            "image": images[0],
            "entrypoint": ("tail", "-f", "/dev/null"),
        }
        return SandboxSpec(**{**fields, **changes})

    return make


@pytest.fixture
async def sandbox(runtime: DockerRuntime, spec: Callable[..., SandboxSpec]) -> Sandbox:
    """A running sandbox."""
    return await runtime.create(spec(), print)


@pytest.fixture
def inside(
    started: Callable[..., Awaitable[tuple[DockerRuntime, Events]]],
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    spec: Callable[..., SandboxSpec],
) -> Callable[..., Awaitable[str]]:
    """What a program prints in a sandbox that is made with these keys of `[docker]`."""

    async def run(*command: str, docker: dict[str, Any] | None = None, **changes: Any) -> str:
        runtime, events = await started(make_settings(images[1], instance, tmp_path, docker=docker or {}))
        made = await runtime.create(spec(entrypoint=command, **changes), print)
        await events.until(lambda event: made.id in str(event) and "CONTAINER_EXITED" in str(event))
        told = b"".join([piece async for piece in await runtime.logs(made.id, LogQuery())]).decode()
        await runtime.delete(made.id)
        return "\n".join(line.partition(" ")[2] for line in told.splitlines())

    return run
