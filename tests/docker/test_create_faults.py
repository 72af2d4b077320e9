"""Creates that fail: each failure says what it is, and leaves neither container nor volume behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import NamedVolume, Platform, SandboxSpec, VolumeMount
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import Events, eventually, free_port, make_settings

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]


def containers(engine: docker.APIClient, instance: str) -> list[str]:
    """Names of the containers of this session."""
    found = engine.containers(all=True, filters={"label": f"opensandbox.io/instance={instance}"})
    return [name for entry in found for name in entry["Names"]]


async def test_an_image_that_does_not_exist_is_not_found(runtime: DockerRuntime, spec: Spec) -> None:
    """A snapshot's image is never looked for in a registry."""
    with pytest.raises(errors.NotFound):
        await runtime.create(spec(image="opensandbox-snapshots:none", snapshot_id="none"), print)


async def test_a_registry_that_refuses_is_unavailable(runtime: DockerRuntime, spec: Spec) -> None:
    """Nothing listens where the image should come from."""
    with pytest.raises(errors.Unavailable) as raised:
        await runtime.create(spec(image=f"127.0.0.1:{free_port()}/x/y:1"), print)
    assert raised.value.code == "DOCKER::SANDBOX_REGISTRY_UNREACHABLE"


@pytest.mark.parametrize("name", ["Not An Image", "scratch", "a" * 256])
async def test_a_name_that_is_none_is_invalid(runtime: DockerRuntime, spec: Spec, name: str) -> None:
    """Upper case and blanks are no image reference; one name means nothing, and none is so long."""
    with pytest.raises(errors.Invalid) as raised:
        await runtime.create(spec(image=name), print)
    assert raised.value.code == "DOCKER::INVALID_IMAGE"


@pytest.mark.parametrize("limits", [{"cpu": "4000"}, {"gpu": "1"}])
async def test_limits_that_only_the_engine_can_judge(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str, limits: dict[str, str]
) -> None:
    """More cores than it has, devices that it has none of: the field is named, and nothing is left."""
    with pytest.raises(errors.Invalid, match=f"resourceLimits.{next(iter(limits))}") as raised:
        await runtime.create(spec(resource_limits=limits), print)
    assert raised.value.code == "SANDBOX::INVALID_PARAMETER"
    assert containers(engine, instance) == []


@pytest.mark.parametrize("file", ["/etc/passwd", "/etc/hosts"])
async def test_a_refused_start_leaves_nothing(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str, file: str
) -> None:
    """A volume cannot be mounted on a file, of the image or of the Engine: container and volume go again.

    The refusal names the field, and no directory of the Engine.
    """
    volume = VolumeMount("data", file, NamedVolume(f"{instance}-fail"))
    with pytest.raises(errors.Invalid, match=r"^volumes: ") as raised:
        await runtime.create(spec(volumes=(volume,)), print)
    assert raised.value.code == "VOLUME::INVALID_MOUNT_PATH"
    assert "/var/lib" not in raised.value.message
    assert containers(engine, instance) == []
    assert await runtime._calls.inspect_volume(f"{instance}-fail") is None


async def test_a_cancelled_create_leaves_nothing(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str
) -> None:
    """Whoever stops waiting gets no sandbox, at whatever step the create was."""
    task = asyncio.ensure_future(runtime.create(spec(), print))
    await eventually(lambda: task.done() or containers(engine, instance))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: not containers(engine, instance))


async def test_a_network_that_does_not_exist_is_invalid(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The message says how to make it."""
    settings = make_settings(images[1], instance, tmp_path, docker={"network_mode": "no-such-net"})
    runtime, _ = await started(settings)
    with pytest.raises(errors.Invalid) as raised:
        await runtime.create(spec(), print)
    assert "docker network create no-such-net" in raised.value.message


async def test_an_execd_image_without_execd_is_told_as_that(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """A wrong runtime.execd_image names the key to change."""
    runtime, _ = await started(make_settings(images[0], instance, tmp_path))
    with pytest.raises(errors.Failed) as raised:
        await runtime.create(spec(), print)
    assert raised.value.code == "DOCKER::SANDBOX_EXECD_DISTRIBUTION_FAILED"
    assert "runtime.execd_image" in raised.value.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"resource_limits": {"memory": "lots"}}, "resourceLimits.memory"),
        ({"resource_limits": {"cpu": "0"}}, "resourceLimits.cpu"),
        ({"resource_limits": {"cpu": "9m"}}, "resourceLimits.cpu"),
        ({"resource_limits": {"memory": "1Mi"}}, "resourceLimits.memory"),
        ({"resource_limits": {"hugepages-2Mi": "1Gi"}}, "hugepages-2Mi"),
        ({"resource_requests": {"ephemeral-storage": "1Gi"}}, "resourceRequests.ephemeral-storage"),
        ({"snapshot_id": "s", "resource_limits": {"cpu": "0.000001"}}, "resourceLimits.cpu"),
        ({"platform": Platform("windows", "amd64")}, "platform.os"),
        ({"secure_runtime": True}, "secureRuntime"),
        ({"entrypoint": ('sh -c "open',)}, "entrypoint"),
        ({"image": None}, "image"),
    ],
)
async def test_what_can_be_known_is_refused_before_anything_is_made(
    settings: Settings, spec: Spec, changes: dict[str, object], field: str
) -> None:
    """`check` calls nobody and names the field."""
    with pytest.raises((errors.Invalid, errors.Unsupported)) as raised:
        DockerRuntime(settings).check(spec(**changes))
    assert field in raised.value.message
