"""Limits that are asked for are held, or refused by name: what the Engine's host can hold, and what it does."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain import errors
from manager.domain.quantities import UNASKED
from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker.error_mapping import start_error
from manager.runtime.docker.limits import Holding, check_held, holding
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import Events, make_settings
from tests.docker.own_engine import OwnEngine

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
DISK_SIZE = "1500M"
WRITE_MUCH = "head -c 300000000 /dev/zero > /much"
INFO = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]], "MemoryLimit": True}


def filed(driver: str, backing: str | None = None) -> dict[str, Any]:
    """What an Engine with this storage says of itself."""
    return {"Driver": driver, "DriverStatus": [["Backing Filesystem", backing]] if backing else None}


@pytest.mark.parametrize(
    ("info", "held"),
    [
        (filed("overlay2", "xfs"), True),
        (filed("overlay2", "extfs"), False),
        (filed("btrfs"), True),
        (filed("zfs"), True),
        (filed("overlayfs"), False),
        ({}, False),
    ],
)
def test_which_storage_has_sizes(spec: Spec, info: dict[str, Any], *, held: bool) -> None:
    """Known from the driver and the file system below it; what we do not know is taken to have none."""
    for name in ("ephemeral-storage", "disk"):
        asked = spec(resource_limits={name: "1Gi"})
        if held:
            check_held(asked, holding(info))
            continue
        with pytest.raises(errors.Invalid, match=f"^resourceLimits.{name}: cannot be held here: .*storage driver"):
            check_held(asked, holding(info))


@pytest.mark.parametrize(("flag", "name"), [("MemoryLimit", "memory"), ("CpuCfsQuota", "cpu")])
def test_a_kernel_without_the_controller_holds_no_limit(spec: Spec, flag: str, name: str) -> None:
    """The Engine would drop it; the limits that SDKs send unasked are dropped as the operator has been told."""
    can = holding({**INFO, flag: False})
    with pytest.raises(errors.Invalid, match=f"^resourceLimits.{name}: cannot be held here"):
        check_held(spec(resource_limits={name: "64Mi" if name == "memory" else "1"}), can)
    check_held(spec(resource_limits=UNASKED), can)
    check_held(spec(resource_limits={name: "1"}), holding({**INFO, flag: True}))


def test_a_kernel_without_shares_meets_no_request(spec: Spec) -> None:
    """A weight that nobody weighs."""
    with pytest.raises(errors.Invalid, match=r"^resourceRequests\.cpu: cannot be held here"):
        check_held(spec(resource_requests={"cpu": "1"}), holding({**INFO, "CPUShares": False}))
    check_held(spec(resource_requests={"cpu": "1"}), Holding())


def test_a_refusal_of_the_kernel_names_no_file_of_the_host() -> None:
    """What runc says is a path of the Engine's host."""
    said = "OCI runtime create failed: write /sys/fs/cgroup/cpu/docker/0123/cpu.cfs_quota_us: invalid argument"
    told = start_error(errors.Failed("DOCKER::ENGINE_ERROR", said))
    assert isinstance(told, errors.Invalid)
    assert told.message == "resourceLimits.cpu: the Engine cannot give this: its kernel refuses this share of the CPU"


async def test_what_cannot_be_held_is_refused_before_anything_is_made(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str
) -> None:
    """On this machine's Engine a disk limit, unless its storage has them."""
    if not holding(engine.info()).unheld:
        pytest.skip("this Engine holds every limit")
    asked = spec(image="never/pulled:1", resource_limits={"ephemeral-storage": "1Gi"})
    with pytest.raises(errors.Invalid, match=r"resourceLimits\.ephemeral-storage"):
        await runtime.create(asked, print)
    assert engine.containers(all=True, filters={"label": f"opensandbox.io/instance={instance}"}) == []


async def test_the_least_limits_are_held(runtime: DockerRuntime, spec: Spec) -> None:
    """The smallest share of a core starts, and the kernel has it."""
    made = await runtime.create(spec(resource_limits={"cpu": "10m"}), print)
    details = await runtime._calls.inspect_container(f"sandbox-{made.id}")
    assert details is not None
    assert details["HostConfig"]["NanoCpus"] == 10_000_000


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Callable[..., OwnEngine]]:
    """Engines whose data is on a file system of the kind asked for."""
    engines: list[OwnEngine] = []

    def start(kind: str) -> OwnEngine:
        if not (OwnEngine.possible() and shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin:/usr/bin")):
            pytest.skip("needs root, dockerd, ip, and the packages btrfs-progs and xfsprogs")
        engine = OwnEngine(**{"storage-driver": "btrfs" if kind == "btrfs" else "overlay2"})
        engines.append(engine)
        data, disk = engine.home / "data", engine.home / "disk"
        data.mkdir()
        subprocess.run(["truncate", "--size", DISK_SIZE, str(disk)], check=True)
        subprocess.run([f"mkfs.{kind}", "-q", str(disk)], check=True, capture_output=True)
        subprocess.run(["mount", "--options", "loop", str(disk), str(data)], check=True)
        engine.start()
        engine.build_images()
        return engine

    yield start
    for engine in engines:
        engine.close()


def settings_of(engine: OwnEngine, images: tuple[str, str], instance: str, folder: Path) -> Settings:
    """Of a server on that Engine."""
    return make_settings(images[1], instance, folder, docker={"host": engine.url})


async def test_a_disk_limit_is_held_where_the_storage_has_sizes(
    started: Started, on_disk: Any, spec: Spec, images: tuple[str, str], instance: str, tmp_path: Path
) -> None:
    """The sandbox's own writes end at it; one without a limit goes on."""
    engine = await asyncio.to_thread(on_disk, "btrfs")
    runtime, _ = await started(settings_of(engine, images, instance, tmp_path))
    codes = []
    for limits in ({"disk": "256Mi"}, {}):
        made = await runtime.create(spec(entrypoint=("sh", "-c", WRITE_MUCH), resource_limits=limits), print)
        with engine.client() as client:
            codes.append((await asyncio.to_thread(client.wait, f"sandbox-{made.id}"))["StatusCode"] == 0)
        await runtime.delete(made.id)
    assert codes == [False, True]
    with pytest.raises(errors.Invalid, match=r"resourceLimits\.ephemeral-storage: .* on btrfs the image counts too"):
        await runtime.create(spec(resource_limits={"disk": "1Mi"}), print)
    await runtime.stop()


async def test_storage_that_might_have_sizes_and_has_none_is_told_by_name(
    started: Started, on_disk: Any, spec: Spec, images: tuple[str, str], instance: str, tmp_path: Path
) -> None:
    """XFS without project quotas, which only the Engine's refusal tells."""
    engine = await asyncio.to_thread(on_disk, "xfs")
    runtime, _ = await started(settings_of(engine, images, instance, tmp_path))
    with pytest.raises(
        errors.Invalid, match=r"resourceLimits\.ephemeral-storage: the Engine cannot give this: .*pquota"
    ):
        await runtime.create(spec(resource_limits={"ephemeral-storage": "1Gi"}), print)
    assert not await runtime.list()
    await runtime.stop()
