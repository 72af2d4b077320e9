"""Whose a sandbox is, as the Engine keeps it: in a label that outlives the server, and that no image hands on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import NamedVolume, SandboxSpec, VolumeMount
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.docker.snapshots import REPOSITORY
from tests.docker.harness import Events

Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]


async def test_a_server_that_starts_later_knows_the_owner(runtime: DockerRuntime, started: Started, spec: Spec) -> None:
    """It is with the container, so that losing the store makes nobody else's sandbox out of it."""
    owned, nobodys = [await runtime.create(spec(owner=owner), print) for owner in ("ann", "")]
    later, _ = await started()
    assert {sandbox.id: sandbox.owner for sandbox in await later.list()} == {owned.id: "ann", nobodys.id: ""}


async def test_a_snapshot_hands_no_owner_on(runtime: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """A sandbox restored from it belongs to who restores it; its image is to be had neither by name nor by id."""
    made = await runtime.create(spec(owner="ann"), print)
    image = await runtime.snapshot(made.id, made.id)
    try:
        restored = await runtime.create(spec(image=image, snapshot_id=made.id, owner=""), print)
        assert restored.owner == ""
        whole = engine.inspect_image(image)["Id"]
        ids = (whole, whole.removeprefix("sha256:"), whole[7:19])
        for name in (image, f"docker.io/library/{image}", f"{REPOSITORY}@sha256:{'0' * 64}", *ids):
            with pytest.raises(errors.Invalid, match="snapshotId"):
                await runtime.create(spec(image=name), print)
        await runtime.delete(restored.id)
    finally:
        await runtime.delete(made.id)
        await runtime.delete_snapshot(image)


async def test_a_volume_by_the_name_of_its_key(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str
) -> None:
    """The longest name of a key, in any characters it may have, makes a name that the Engine takes."""
    claim = f"opensandbox-own-{'A._-' * 15}Abc_{instance}"
    mount = VolumeMount("data", "/data", NamedVolume(claim, delete_on_termination=True))
    made = await runtime.create(spec(volumes=(mount,)), print)
    assert engine.inspect_volume(claim)["Name"] == claim
    await runtime.delete(made.id)
