"""What a killed server leaves is adopted or removed; what another server owns is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from manager.domain.sandbox import HostVolume, NamedVolume, Sandbox, SandboxSpec, SandboxState, VolumeMount
from manager.runtime.base import Departure
from manager.runtime.docker import variables
from manager.runtime.docker.labels import (
    EXPIRES_AT,
    INSTANCE,
    METADATA,
    SANDBOX_LABELS,
    SNAPSHOT,
    SNAPSHOT_ENVS,
    VOLUMES,
)
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.docker.spec import OWN_VARIABLES
from manager.settings.model import Settings
from tests.docker.conftest import remove_all
from tests.docker.harness import DEADLINE, Events, eventually, make_settings
from tests.engine import api_client

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
LABEL = "opensandbox.io/"
EARLIER_LABELS = [
    f"{LABEL}{name}"
    for name in ("http-port", "embedding-proxy-port", "ossfs-mounts", "access-renew-extend-seconds", "extensions.a")
]
"""Those of the released server that we do not use."""


async def test_running_sandboxes_are_adopted_as_they_are(runtime: DockerRuntime, started: Started, spec: Spec) -> None:
    """A second life of the server sees exactly what the first one made."""
    asked = spec(metadata={"a": "b"}, secure_token="t0ken")
    made = await runtime.create(asked, print)
    _, events = await started()
    synced = await events.synced()
    assert [sandbox for sandbox in synced.sandboxes if sandbox.id == made.id] == [made]


async def test_old_running_sandboxes_are_no_leftovers(runtime: DockerRuntime, started: Started, spec: Spec) -> None:
    """Whatever their age: a pass without any grace leaves them running."""
    made = await runtime.create(spec(), print)
    second, _ = await started(leftover_grace=0.0)
    found = await second.get(made.id)
    assert found is not None
    assert found.uid == made.uid


async def test_what_never_started_is_removed(
    started: Started, engine: docker.APIClient, instance: str, images: tuple[str, str]
) -> None:
    """A container made by a create that was killed goes at the next start, with its volume."""
    volume = f"{instance}-half"
    labels = {f"{LABEL}id": "half", f"{LABEL}instance": instance}
    engine.create_volume(volume, labels={**labels, f"{LABEL}volume-for": "half", f"{LABEL}volume-managed-by": "server"})
    engine.create_container(images[0], "true", name="sandbox-half", labels=labels)
    runtime, events = await started(leftover_grace=0.0)
    synced = await events.synced()
    assert all(sandbox.id != "half" for sandbox in synced.sandboxes)
    assert await runtime._calls.inspect_container("sandbox-half") is None
    assert await runtime._calls.inspect_volume(volume) is None


async def test_what_may_still_be_in_the_making_is_left(
    started: Started, engine: docker.APIClient, instance: str, images: tuple[str, str]
) -> None:
    """A predecessor that shuts down may be in the middle of a create."""
    labels = {f"{LABEL}id": "young", f"{LABEL}instance": instance}
    made = engine.create_container(images[0], "true", name="sandbox-young", labels=labels)
    runtime, _ = await started()
    assert await runtime._calls.inspect_container("sandbox-young") is not None
    engine.remove_container(made["Id"])


@pytest.mark.defect(12)
async def test_another_servers_sandboxes_are_not_ours(
    runtime: DockerRuntime,
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    sandbox: Sandbox,
    engine: docker.APIClient,
) -> None:
    """Neither listed, nor got, nor deleted, nor told of."""
    other, events = await started(make_settings(images[1], f"{instance}-other", tmp_path), leftover_grace=0.0)
    assert (await events.synced()).sandboxes == ()
    assert await other.get(sandbox.id) is None
    assert not await other.delete(sandbox.id)
    assert await runtime.get(sandbox.id) is not None
    remove_all(engine, f"{instance}-other")


async def test_a_volume_that_goes_with_its_sandbox(runtime: DockerRuntime, spec: Spec, instance: str) -> None:
    """deleteOnSandboxTermination removes what this create made, and only that."""
    gone, kept = f"{instance}-gone", f"{instance}-kept"
    volumes = (
        VolumeMount("a", "/a", NamedVolume(gone, delete_on_termination=True)),
        VolumeMount("b", "/b", NamedVolume(kept)),
    )
    made = await runtime.create(spec(volumes=volumes), print)
    await runtime.delete(made.id)
    assert await runtime._calls.inspect_volume(gone) is None
    assert await runtime._calls.inspect_volume(kept) is not None


async def test_execd_of_an_earlier_image_is_collected(
    started: Started, settings: Settings, instance: str, engine: docker.APIClient
) -> None:
    """A volume whose image is no longer on the Engine goes."""
    old = f"opensandbox-execd-{instance}"
    engine.create_volume(old, labels={f"{LABEL}execd-volume": f"sha256:{'0' * 64}"})
    await started(settings)
    await eventually(lambda: old not in [v["Name"] for v in engine.volumes()["Volumes"]])


@pytest.fixture
def own_execd(engine: docker.APIClient, images: tuple[str, str], instance: str) -> Iterator[str]:
    """An execd image that no other test uses, hence with a volume of its own."""
    tag = f"opensandbox-test/execd:{instance}"
    source = engine.create_container(images[1], "true")
    repository, _, version = tag.partition(":")
    made = engine.commit(source["Id"], repository, version, changes=[f"LABEL of={instance}"])
    engine.remove_container(source["Id"])
    yield tag
    engine.remove_image(tag)
    with contextlib.suppress(docker.errors.NotFound):
        engine.remove_volume(f"opensandbox-execd-{made['Id'].rpartition(':')[2][:12]}")


async def test_execd_removed_behind_our_back_is_made_again(
    started: Started, spec: Spec, engine: docker.APIClient, own_execd: str, instance: str, tmp_path: Path
) -> None:
    """The Engine would mount an empty volume in its place, and no sandbox would start."""
    runtime, _ = await started(make_settings(own_execd, instance, tmp_path))
    kit = await runtime._execd.kit(None)
    await asyncio.to_thread(engine.remove_volume, kit.volume)
    made = await runtime.create(spec(), print)
    assert made.status.state is SandboxState.RUNNING
    await runtime.delete(made.id)


async def test_servers_that_fill_the_same_volume_take_turns(
    started: Started, own_execd: str, instance: str, tmp_path: Path
) -> None:
    """Both end up with the complete one; nothing of the filling stays."""
    several = [await started(make_settings(own_execd, instance, tmp_path)) for _ in range(3)]
    kits = await asyncio.gather(*(runtime._execd.kit(None) for runtime, _ in several))
    assert len({kit.volume for kit in kits}) == 1
    runtime = several[0][0]
    assert await runtime._calls.list_containers(["opensandbox.io/helper", f"opensandbox.io/instance={instance}"]) == []


@pytest.mark.defect(1)
async def test_snapshot_restore_carries_nothing_of_the_source(runtime: DockerRuntime, spec: Spec) -> None:
    """Files come back; metadata, expiry, tokens and volumes of the source do not."""
    source = await runtime.create(
        spec(metadata={"who": "source"}, secure_token="t0ken", entrypoint=("sh", "-c", "echo hi > /kept; sleep 600")),
        print,
    )
    image = await runtime.snapshot(source.id, source.id)
    assert image == runtime.snapshot_image(source.id)
    read = ("sh", "-c", "cat /kept; sleep 600")
    restored = await runtime.create(spec(image=image, snapshot_id=source.id, entrypoint=read, expires_at=None), print)
    assert (restored.metadata, restored.secure_token, restored.expires_at) == ({}, None, None)
    assert restored.snapshot_id == source.id
    await runtime.delete(source.id)
    await runtime.delete(restored.id)
    await runtime.delete_snapshot(image)
    assert not await runtime.has_snapshot(image)


@pytest.fixture
def with_volumes(engine: docker.APIClient, images: tuple[str, str], instance: str) -> Iterator[str]:
    """An image that declares a volume."""
    source = engine.create_container(images[0], "true")
    engine.commit(source["Id"], repository=f"{instance}-volumes", tag="1", changes=['VOLUME ["/declared"]'])
    engine.remove_container(source["Id"])
    yield f"{instance}-volumes:1"
    engine.remove_image(f"{instance}-volumes:1")


async def test_a_snapshot_leaves_out_what_is_mounted(
    started: Started, spec: Spec, images: tuple[str, str], instance: str, tmp_path: Path, with_volumes: str
) -> None:
    """Volumes of the image, of the request and directories of the host are named; what every sandbox has is not."""
    docker_table = {"sandbox_binds": [f"{tmp_path}:/everywhere:ro"]}
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, docker=docker_table))
    volumes = (
        VolumeMount("n", "/named", NamedVolume(f"{instance}-left-out", delete_on_termination=True)),
        VolumeMount("h", "/host", HostVolume(str(tmp_path / "new"))),
    )
    write = "for d in declared named host kept; do mkdir -p /$d; echo hi > /$d/file; done; touch /done; sleep 600"
    source = await runtime.create(spec(image=with_volumes, volumes=volumes, entrypoint=("sh", "-c", write)), print)
    await _appears(source.id, "/done")
    assert await runtime.check_snapshot(source.id) == ("/declared", "/host", "/named")
    image = await runtime.snapshot(source.id, source.id)
    look = ("sh", "-c", "touch /looked; sleep 600")
    restored = await runtime.create(spec(image=image, snapshot_id=source.id, entrypoint=look), print)
    await _appears(restored.id, "/looked")
    assert await _holds(restored.id, "/kept/file")
    for lost in ("/declared", "/host", "/named"):
        assert not await _holds(restored.id, f"{lost}/file")
    assert await runtime.check_snapshot(restored.id) == ("/declared",)
    await asyncio.gather(runtime.delete(source.id), runtime.delete(restored.id))
    await runtime.delete_snapshot(image)


async def _appears(sandbox_id: str, path: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await _holds(sandbox_id, path):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)


async def _holds(sandbox_id: str, path: str) -> bool:
    """Asked inside: the Engine's copy would look for the host's directory where it was bound for the start only."""

    def asked() -> bool:
        with contextlib.closing(api_client()) as client:
            run = client.exec_create(f"sandbox-{sandbox_id}", ["test", "-e", path])["Id"]
            client.exec_start(run)
            return bool(client.exec_inspect(run)["ExitCode"] == 0)

    return await asyncio.to_thread(asked)


async def test_a_sandbox_without_mounts_is_kept_whole(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """What we mount is no loss."""
    assert await runtime.check_snapshot(sandbox.id) == ()


@pytest.mark.defect(1)
async def test_a_snapshot_image_has_none_of_our_labels(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """Whatever is created from it elsewhere is not mistaken for a sandbox of ours."""
    image = await runtime.snapshot(sandbox.id, sandbox.id)
    details = await runtime._calls.inspect_image(image)
    assert details is not None
    said = {key for key, value in details["Config"]["Labels"].items() if key.startswith(LABEL) and value}
    assert said == {f"{LABEL}snapshot", f"{LABEL}snapshot-envs"}
    await runtime.delete_snapshot(image)


@pytest.fixture
def hostile_image(engine: docker.APIClient, images: tuple[str, str], instance: str) -> Iterator[str]:
    """What a snapshot could bring: every label and every variable of ours with something of another sandbox in it."""
    poison = {
        **dict.fromkeys((*SANDBOX_LABELS, *EARLIER_LABELS, SNAPSHOT, SNAPSHOT_ENVS), "poison"),
        VOLUMES: json.dumps([f"{instance}-other"]),
    }
    poison |= {EXPIRES_AT: "2020-01-01T00:00:00+00:00", METADATA: '{"who": "source"}', "who": "source"}
    lines = [f"LABEL {name}={json.dumps(value)}" for name, value in poison.items()]
    lines += [f"ENV {name}=poison" for name in OWN_VARIABLES]
    source = engine.create_container(images[0], "true")
    engine.commit(source["Id"], repository=f"{instance}-hostile", tag="1", changes=lines)
    engine.remove_container(source["Id"])
    yield f"{instance}-hostile:1"
    engine.remove_image(f"{instance}-hostile:1")


@pytest.mark.defect(1)
async def test_nothing_that_an_image_says_counts(
    runtime: DockerRuntime, started: Started, spec: Spec, engine: docker.APIClient, instance: str, hostile_image: str
) -> None:
    """Each of our labels, and each variable that we set, is the request's own; the source's volume is left alone."""
    engine.create_volume(f"{instance}-other", labels={INSTANCE: instance, VOLUMES: "server"})
    asked = spec(image=hostile_image, snapshot_id="s", expires_at=None, entrypoint=("sleep", "600"))
    made = await runtime.create(asked, print)
    _, events = await started()
    for found in (made, *(box for box in (await events.synced()).sandboxes if box.id == made.id)):
        assert (found.id, found.snapshot_id, found.entrypoint) == (asked.id, "s", asked.entrypoint)
        assert (found.metadata, found.extensions, found.platform) == ({}, {}, None)
        assert (found.expires_at, found.manual_cleanup, found.created_at) == (None, True, asked.created_at)
        assert (found.secure_token, found.egress_token) == (None, None)
    ran = engine.exec_create(f"sandbox-{made.id}", ["cat", "/proc/1/environ"])
    assert b"poison" not in engine.exec_start(ran["Id"])
    assert await runtime.delete(made.id)
    assert await runtime._calls.inspect_volume(f"{instance}-other") is not None


async def test_what_a_snapshot_keeps_of_the_environment(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient
) -> None:
    """Variables of the source's request come back, unless the new one takes them away; nothing that we set does."""
    source = await runtime.create(spec(env={"KEPT": "1", "TAKEN": "1"}, secure_token="t0ken"), print)
    image = await runtime.snapshot(source.id, source.id)
    config = (await runtime._calls.inspect_image(image) or {})["Config"]
    assert not [entry for entry in config["Env"] if entry.partition("=")[0] in OWN_VARIABLES and entry[-1] != "="]
    assert "t0ken" not in str(config)
    made = await runtime.create(spec(image=image, snapshot_id=source.id, env={"TAKEN": None}), print)
    ran = engine.exec_create(f"sandbox-{made.id}", ["cat", "/proc/1/environ"])
    seen = dict(entry.split("=", 1) for entry in engine.exec_start(ran["Id"]).decode().split("\0") if entry)
    assert (seen["KEPT"], seen.get("TAKEN"), seen["OPENSANDBOX_ID"]) == ("1", None, made.id)
    await asyncio.gather(runtime.delete(source.id), runtime.delete(made.id))
    await runtime.delete_snapshot(image)


SHOW = (
    'import os; print(sorted(os.listdir("/tmp")), os.environ["EXECD_ENVS"], os.path.exists(os.environ["EXECD_ENVS"]))'
)


async def _inside(runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, *script: str, **changes: Any) -> str:
    """What a command prints that is a sandbox's own; the sandbox goes."""
    made = await runtime.create(spec(entrypoint=script, **changes), print)
    await asyncio.to_thread(engine.wait, f"sandbox-{made.id}")
    printed = engine.logs(f"sandbox-{made.id}").decode()
    await runtime.delete(made.id)
    return str(printed.strip())


@pytest.mark.parametrize("user", ["root", "65534:65534"])
async def test_a_sandbox_lists_nothing_of_ours_where_files_are_looked_for(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, images: tuple[str, str], instance: str, user: str
) -> None:
    """The file of variables is there, for any user of the image to add to, and not in /tmp."""
    source = engine.create_container(images[0], "true")
    name = f"{instance}-user"
    engine.commit(source["Id"], repository=name, tag="1", changes=[f"USER {user}"])
    engine.remove_container(source["Id"])
    shown = await _inside(runtime, spec, engine, "python3", "-c", SHOW, image=f"{name}:1")
    engine.remove_image(f"{name}:1")
    assert shown == f"[] {variables.IN_CONTAINER} True"


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        ({}, variables.BESIDE_EXECD),
        ({SNAPSHOT: "i"}, variables.EARLIER),
        ({SNAPSHOT: "i", SNAPSHOT_ENVS: "/etc/passwd"}, variables.EARLIER),
        ({SNAPSHOT: "i", SNAPSHOT_ENVS: variables.IN_CONTAINER}, variables.IN_CONTAINER),
    ],
)
async def test_a_restored_sandbox_goes_on_with_its_file_of_variables(
    runtime: DockerRuntime,
    spec: Spec,
    engine: docker.APIClient,
    images: tuple[str, str],
    instance: str,
    labels: dict[str, str],
    place: str,
) -> None:
    """Snapshots of the released server, our first ones and today's have it in different places."""
    source = engine.create_container(images[0], ["sh", "-c", f"mkdir -p ${{0%/*}}; echo KEPT=1 > {place}", place])
    engine.start(source["Id"])
    engine.wait(source["Id"])
    lines = [f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()]
    engine.commit(source["Id"], repository=f"{instance}-envs", tag="1", changes=[*lines, 'ENV EXECD_ENVS=""'])
    engine.remove_container(source["Id"])
    read = ("sh", "-c", 'cat "$EXECD_ENVS"; echo MORE=1 >> "$EXECD_ENVS"')
    shown = await _inside(runtime, spec, engine, *read, image=f"{instance}-envs:1", snapshot_id="s")
    engine.remove_image(f"{instance}-envs:1")
    assert shown == "KEPT=1"


async def test_a_snapshot_says_where_its_file_of_variables_is(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient
) -> None:
    """What was added to it comes back, of whatever kind the sandboxes are, and after a second snapshot."""
    add = ("sh", "-c", 'echo A=1 >> "$EXECD_ENVS"; touch /done; sleep 600')
    source = await runtime.create(spec(entrypoint=add), print)
    await _appears(source.id, "/done")
    first = await runtime.snapshot(source.id, source.id)
    second_add = ("sh", "-c", 'echo B=2 >> "$EXECD_ENVS"; touch /again; sleep 600')
    restored = await runtime.create(spec(image=first, snapshot_id=source.id, entrypoint=second_add), print)
    await _appears(restored.id, "/again")
    second = await runtime.snapshot(restored.id, restored.id)
    read = ("sh", "-c", 'cat "$EXECD_ENVS"')
    assert await _inside(runtime, spec, engine, *read, image=second, snapshot_id=restored.id) == "A=1\nB=2"
    await asyncio.gather(runtime.delete(source.id), runtime.delete(restored.id))
    for image in (second, first):
        await runtime.delete_snapshot(image)


async def test_departures_while_the_stream_was_down_are_in_the_next_picture(
    runtime: DockerRuntime, started: Started, spec: Spec
) -> None:
    """Two servers of one instance: what one deletes the other hears of."""
    made = await runtime.create(spec(), print)
    _, events = await started()
    await runtime.delete(made.id)
    assert (await events.gone(made.id)).reason is Departure.VANISHED
