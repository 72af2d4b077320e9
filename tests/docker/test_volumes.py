"""Volumes on a real Engine: what is mounted, what is refused, and what a link may not do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import HostVolume, NamedVolume, SandboxSpec, VolumeMount
from manager.runtime.docker.buckets import mounted_below
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.error_mapping import start_error
from manager.runtime.docker.host.path_policy import own_places
from manager.runtime.docker.pinning import FOLDER, Pins
from manager.runtime.docker.rollback import Undo
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.docker.volumes import SUBPATH_API, is_folder
from manager.settings.model import Settings
from tests.docker.harness import Events, free_port, make_settings
from tests.docker.own_engine import OwnEngine
from tests.engine import engine_socket
from tests.server_process import SANDBOX_IMAGE

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Run = Callable[..., Awaitable[int]]
Contested = tuple[Path, Path, VolumeMount]
ATTEMPTS = 8
HERE, EXCHANGE = -100, 2
"""Of renameat2(2): names as they are, and both keep existing."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The one directory that may be mounted from."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
async def allowing(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, data: Path
) -> DockerRuntime:
    """A runtime that allows `data` only."""
    storage = {"allowed_host_paths": [str(data)]}
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, storage=storage))
    return runtime


@pytest.fixture
def run(allowing: DockerRuntime, spec: Spec, engine: docker.APIClient) -> Run:
    """Runs a script in a sandbox with volumes, to its end; the exit code."""

    async def run(script: str, *volumes: VolumeMount) -> int:
        made = await allowing.create(spec(entrypoint=("sh", "-c", script), volumes=volumes), print)
        ended = await asyncio.to_thread(engine.wait, f"sandbox-{made.id}")
        await allowing.delete(made.id)
        return int(ended["StatusCode"])

    return run


async def test_a_host_directory_is_mounted(run: Run, data: Path) -> None:
    """What the sandbox writes is there afterwards; a sub-path is made if need be."""
    volume = VolumeMount("data", "/mnt", HostVolume(str(data)), sub_path="a/b")
    assert await run("echo hi > /mnt/file", volume) == 0
    assert (data / "a" / "b" / "file").read_text() == "hi\n"


async def test_read_only_is_read_only(run: Run, data: Path) -> None:
    """Host directories and named volumes alike."""
    volume = VolumeMount("data", "/mnt", HostVolume(str(data)), read_only=True)
    assert await run("echo hi > /mnt/file", volume) != 0
    assert not (data / "file").exists()


NEVER = [
    "/", "/run", "/var", "/var/lib", "/var/run/docker.sock", "/run/docker/containerd", "/var/lib/docker/volumes",
    "/proc", "/proc/1/root", "/proc/self/cwd", "/sys/kernel", "/dev/../proc", "/dev", "/dev/shm", "/boot", "/boot/efi",
    "/run/user/1000", "/var/run/podman/podman.sock", "/var/lib/containers/storage", "/var/lib/containerd",
]  # fmt: skip


def refused(runtime: DockerRuntime, spec: Spec, path: str | Path) -> str:
    """The code with which a host path is refused, before anything is made."""
    with pytest.raises(errors.Invalid) as raised:
        runtime.check(spec(volumes=(VolumeMount("data", "/mnt", HostVolume(str(path))),)))
    return raised.value.code


async def test_what_is_not_on_the_list_is_not_mounted(allowing: DockerRuntime, spec: Spec) -> None:
    """Whatever it is."""
    assert refused(allowing, spec, "/etc") == "VOLUME::HOST_PATH_NOT_ALLOWED"


@pytest.mark.parametrize("path", NEVER)
async def test_places_that_are_never_mounted(runtime: DockerRuntime, spec: Spec, path: str) -> None:
    """Not even with an empty allow-list, which allows the rest: nor what holds them, nor other ways to them."""
    expected = "VOLUME::INVALID_HOST_PATH" if ".." in path else "VOLUME::HOST_PATH_NOT_ALLOWED"
    assert refused(runtime, spec, path) == expected


async def test_our_own_state_is_never_mounted(runtime: DockerRuntime, spec: Spec, tmp_path: Path) -> None:
    """Neither the directory of the store, nor one that holds it, nor a link to either."""
    runtime.check(spec(volumes=(VolumeMount("data", "/mnt", HostVolume(str(tmp_path / "x"))),)))
    (tmp_path / "links").mkdir()
    for target in (tmp_path / "state", tmp_path, Path("/run"), Path("/")):
        link = tmp_path / "links" / (target.name or "root")
        link.symlink_to(target)
        for path in (target, link):
            assert refused(runtime, spec, path) == "VOLUME::HOST_PATH_NOT_ALLOWED"


async def test_keys_and_sockets_are_never_mounted(
    images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The key of the server's certificate; the socket of an Engine of any user, and of what serves that Engine."""
    tls = {"certificate": str(tmp_path / "tls" / "cert.pem"), "key": str(tmp_path / "tls" / "key.pem")}
    docker = {"host": f"unix://{tmp_path}/run/docker.sock"}
    runtime = DockerRuntime(make_settings(images[1], instance, tmp_path, docker=docker, server={"tls": tls}))
    for place in ("tls", "tls/key.pem", "run", "run/docker.sock", "run/docker/containerd"):
        assert refused(runtime, spec, tmp_path / place) == "VOLUME::HOST_PATH_NOT_ALLOWED"
    await runtime.stop()


async def test_what_configures_the_server_is_never_mounted(
    images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The file with its keys, its directory, other files there, and the seccomp profile; whatever the list says."""
    folder = tmp_path / "etc"
    (folder / "data").mkdir(parents=True)
    for name in ("server.toml", "server.env", "seccomp.json"):
        (folder / name).write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    (tmp_path / "link.toml").symlink_to(folder / "server.toml")
    storage = {"allowed_host_paths": [str(tmp_path), str(folder), str(folder / "server.toml")]}
    profile = {"seccomp_profile": str(folder / "seccomp.json")}
    settings = make_settings(images[1], instance, tmp_path, storage=storage, docker=profile)
    for config in (folder / "server.toml", tmp_path / "link.toml"):
        runtime = DockerRuntime(settings, config=config)
        for path in (folder, *(folder / name for name in os.listdir(folder) if name != "data"), tmp_path, config):
            assert refused(runtime, spec, path) == "VOLUME::HOST_PATH_NOT_ALLOWED"
        runtime.check(spec(volumes=(VolumeMount("data", "/mnt", HostVolume(str(folder / "data"))),)))
        await runtime.stop()


async def test_keys_to_an_engine_are_never_mounted(runtime: DockerRuntime, spec: Spec) -> None:
    """Those of the server's own user, and what its rootless engines keep."""
    for place in (".docker", ".ssh/id_ed25519", ".local/share/docker", ".local/share/containers/storage"):
        assert refused(runtime, spec, f"{os.environ['HOME']}/{place}") == "VOLUME::HOST_PATH_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("device", "harmless"), [("{tmp}/fine", True), ("{tmp}/state", False), ("{tmp}", False), ("/etc/../proc", False)]
)
async def test_a_volume_that_shows_a_directory_of_the_host(
    runtime: DockerRuntime,
    spec: Spec,
    engine: docker.APIClient,
    instance: str,
    tmp_path: Path,
    device: str,
    harmless: bool,
) -> None:
    """One that an operator made with bind options is mounted, unless it shows what is never mounted."""
    for name in ("fine", "state"):
        (tmp_path / name).mkdir(exist_ok=True)
    options = {"type": "none", "o": "bind", "device": device.format(tmp=tmp_path)}
    name = f"{instance}-bound"
    engine.create_volume(name, driver="local", driver_opts=options)
    asked = spec(volumes=(VolumeMount("v", "/mnt", NamedVolume(name)),))
    try:
        if harmless:
            await runtime.delete((await runtime.create(asked, print)).id)
            return
        with pytest.raises(errors.Invalid, match="the volume shows") as raised:
            await runtime.create(asked, print)
        assert raised.value.code == "VOLUME::HOST_PATH_NOT_ALLOWED"
    finally:
        engine.remove_volume(name)


def test_where_the_files_of_a_server_in_a_container_are_on_the_host() -> None:
    """What is bound into it from the host has another name there: that one is protected too."""
    mounts = [
        {"Type": "bind", "Source": "/srv/gateway.toml", "Destination": "/etc/opensandbox/config.toml"},
        {"Type": "bind", "Source": "/srv/state", "Destination": "/var/lib/opensandbox"},
        {"Type": "bind", "Source": "/srv/shared", "Destination": "/shared"},
        {"Type": "volume", "Name": "v", "Source": "/var/lib/docker/volumes/v/_data", "Destination": "/etc/opensandbox"},
    ]
    inside = ("/etc/opensandbox/config.toml", "/var/lib/opensandbox/data")
    assert set(own_places({"Mounts": mounts}, inside)) == {"/srv/gateway.toml", "/srv/state/data"}


@pytest.fixture
def shown_elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory at which a mount shows the one that holds the server's state."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    source, alias = tmp_path / "state", tmp_path / "alias"
    (source / "deep").mkdir(parents=True, exist_ok=True)
    alias.mkdir()
    subprocess.run(["mount", "--bind", str(source), str(alias)], check=True)
    yield alias
    subprocess.run(["umount", str(alias)], check=True)


async def test_a_mount_of_our_state_elsewhere_is_no_way_to_it(
    runtime: DockerRuntime, spec: Spec, shown_elsewhere: Path
) -> None:
    """No link is followed there: the directory itself is the same."""
    for path in (shown_elsewhere, shown_elsewhere / "deep"):
        assert refused(runtime, spec, path) == "VOLUME::HOST_PATH_NOT_ALLOWED"


async def test_the_engines_data_is_never_mounted_wherever_it_is(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The Engine says where it is."""
    if not OwnEngine.possible():
        pytest.skip("needs root, dockerd and ip")
    engine = OwnEngine()
    engine.start()
    try:
        runtime, _ = await started(make_settings(images[1], instance, tmp_path, docker={"host": engine.url}))
        for path in (engine.home / "data" / "volumes", engine.home):
            assert refused(runtime, spec, path) == "VOLUME::HOST_PATH_NOT_ALLOWED"
        await runtime.stop()
    finally:
        engine.close()


async def test_a_link_out_of_the_allowed_directory_is_refused(allowing: DockerRuntime, spec: Spec, data: Path) -> None:
    """A sandbox with write access could have made it."""
    (data / "escape").symlink_to("/etc")
    for volume in (
        VolumeMount("data", "/mnt", HostVolume(str(data / "escape"))),
        VolumeMount("data", "/mnt", HostVolume(str(data)), sub_path="escape/ssl"),
    ):
        with pytest.raises(errors.Invalid) as raised:
            allowing.check(spec(volumes=(volume,)))
        assert raised.value.code == "VOLUME::HOST_PATH_NOT_ALLOWED"


@contextlib.contextmanager
def swapping(place: Path, target: Path) -> Iterator[None]:
    """A link to `target` and the directory at this place change places as fast as it goes."""
    over, link = threading.Event(), place.with_name("link")
    link.symlink_to(target)
    exchange = ctypes.CDLL(None).renameat2

    def swap() -> None:
        while not over.is_set():
            exchange(HERE, bytes(place), HERE, bytes(link), EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def contested(engine: docker.APIClient, instance: str, tmp_path: Path, data: Path, named: bool) -> Iterator[Contested]:
    """A directory `x` that another sandbox may replace: below an allowed one, or in a named volume."""
    name = f"{instance}-contested"
    engine.create_volume(name)
    place = Path(engine.inspect_volume(name)["Mountpoint"]) / "x" if named else data / "x"
    secret = tmp_path / "secret"
    for folder, word in ((place, "theirs"), (secret, "mine")):
        folder.mkdir()
        (folder / "file").write_text(word)
    source = NamedVolume(name) if named else HostVolume(str(data))
    yield place, secret, VolumeMount("v", "/mnt", source, sub_path="x")
    engine.remove_volume(name)


@pytest.mark.parametrize("named", [False, True], ids=["a directory of the host", "part of a named volume"])
async def test_a_link_put_there_before_the_start_is_not_followed(
    allowing: DockerRuntime, spec: Spec, engine: docker.APIClient, contested: Contested
) -> None:
    """What is mounted is what was looked at, though the path leads elsewhere when the Engine follows it."""
    place, secret, volume = contested
    volumes, undo = allowing._volumes, Undo()
    mounted = await volumes.prepare(spec(volumes=(volume,)), undo)
    place.rename(place.with_name("aside"))
    place.symlink_to(secret)
    body = {"Image": SANDBOX_IMAGE, "Entrypoint": ["cat", "/mnt/file"], "HostConfig": {"Mounts": list(mounted.mounts)}}
    made = engine.create_container_from_config(body, None, None)["Id"]
    try:
        engine.start(made)
        volumes.started(mounted)
        await asyncio.to_thread(engine.wait, made)
        assert engine.logs(made).decode() == "theirs"
    finally:
        await undo.run()
        engine.remove_container(made, force=True)
    assert mounted_below(f"{FOLDER}/{os.getpid()}") == []


@pytest.mark.parametrize("named", [False])
async def test_links_that_come_and_go_during_creates(
    allowing: DockerRuntime, spec: Spec, engine: docker.APIClient, contested: Contested
) -> None:
    """Each create has the directory or is refused in words; nothing is left held."""
    place, secret, volume = contested
    told = []
    with swapping(place, secret):
        for _ in range(ATTEMPTS):
            try:
                made = await allowing.create(spec(entrypoint=("cat", "/mnt/file"), volumes=(volume,)), print)
            except errors.Invalid as refusal:
                told.append(refusal.code)
                continue
            await asyncio.to_thread(engine.wait, f"sandbox-{made.id}")
            told.append(engine.logs(f"sandbox-{made.id}").decode())
            await allowing.delete(made.id)
    assert set(told) <= {"theirs", "VOLUME::HOST_PATH_NOT_ALLOWED"}
    assert mounted_below(f"{FOLDER}/{os.getpid()}") == []


def test_what_a_killed_server_holds_goes(tmp_path: Path) -> None:
    """Held places are let go when the next server meets the Engine, and what they showed stays."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    shown, ended = tmp_path / "shown", tmp_path / "pins" / "4194304"  # above the highest process id
    for folder in (shown, ended / "place"):
        folder.mkdir(parents=True)
    (shown / "file").write_text("kept")
    subprocess.run(["mount", "--bind", str(shown), str(ended / "place")], check=True)
    Pins(str(tmp_path / "pins")).meet(f"unix://{engine_socket()}")
    assert not ended.exists()
    assert (shown / "file").read_text() == "kept"


@pytest.mark.defect(8)
async def test_a_directory_made_for_a_failed_create_goes_again(allowing: DockerRuntime, spec: Spec, data: Path) -> None:
    """The second volume does not exist and must not be made: the first one's directory is taken back."""
    volumes = (
        VolumeMount("a", "/a", HostVolume(str(data / "new" / "deep"))),
        VolumeMount("b", "/b", NamedVolume("no-such-volume", create_if_not_exists=False)),
    )
    with pytest.raises(errors.Invalid) as raised:
        await allowing.create(spec(volumes=volumes), print)
    assert raised.value.code == "VOLUME::PVC_NOT_FOUND"
    assert os.listdir(data) == []


async def test_a_directory_that_cannot_be_made(allowing: DockerRuntime, spec: Spec, data: Path) -> None:
    """A file is in the way."""
    (data / "file").write_text("")
    volume = VolumeMount("a", "/a", HostVolume(str(data / "file" / "below")))
    with pytest.raises(errors.Failed) as raised:
        await allowing.create(spec(volumes=(volume,)), print)
    assert raised.value.code == "VOLUME::HOST_PATH_CREATE_FAILED"


async def test_a_named_volume_is_shared_and_kept(run: Run, instance: str) -> None:
    """Two sandboxes one after the other; the second sees a sub-path of what the first wrote."""
    source = NamedVolume(f"{instance}-shared")
    assert await run("mkdir /mnt/sub && echo hi > /mnt/sub/file", VolumeMount("v", "/mnt", source)) == 0
    part = VolumeMount("v", "/part", source, sub_path="sub", read_only=True)
    assert await run("test -f /part/file && ! touch /part/other", part) == 0


async def test_a_link_out_of_a_named_volume_is_refused(
    run: Run, allowing: DockerRuntime, spec: Spec, instance: str
) -> None:
    """The link was made by a sandbox; following it would mount the Engine's host."""
    source = NamedVolume(f"{instance}-links")
    assert await run("ln -s /etc /mnt/escape", VolumeMount("v", "/mnt", source)) == 0
    with pytest.raises(errors.Invalid) as raised:
        await allowing.create(spec(volumes=(VolumeMount("v", "/mnt", source, sub_path="escape"),)), print)
    assert raised.value.code == "VOLUME::INVALID_SUB_PATH"


@pytest.mark.parametrize(
    ("driver", "options", "plain"),
    [
        ("local", None, True),
        ("local", {}, True),
        ("local", {"size": "1G"}, True),
        ("local", {"type": "nfs", "o": "addr=192.0.2.1,rw", "device": ":/export"}, False),
        ("local", {"type": "none", "o": "bind", "device": "/srv"}, False),
        ("local", {"type": "tmpfs", "device": "tmpfs"}, False),
        ("a-plugin", None, False),
    ],
)
def test_which_volumes_are_directories_of_the_hosts_own_disk(
    driver: str, options: dict[str, str] | None, *, plain: bool
) -> None:
    """What is mounted there by another driver or by mount options is not below the volume's directory."""
    assert is_folder({"Driver": driver, "Options": options, "Mountpoint": "/var/lib/docker/volumes/v/_data"}) is plain


class Told(Calls):
    """An Engine of this API version, on which every volume is one with mount options."""

    version = SUBPATH_API

    async def api_version(self) -> tuple[int, ...]:
        return self.version

    async def inspect_volume(self, name: str) -> dict[str, Any]:
        options = {"type": "nfs", "device": ":/export"}
        return {"Name": name, "Driver": "local", "Options": options, "Mountpoint": "/nowhere"}


@pytest.mark.parametrize(("part", "options"), [("a/./b/", {"Subpath": "a/b"}), (".", None)])
async def test_an_engine_that_mounts_parts_of_volumes_is_asked_to(
    settings: Settings, spec: Spec, part: str, options: dict[str, str] | None
) -> None:
    """The Engine looks below what is mounted, not below a directory on its disk."""
    volumes = DockerRuntime(settings)._volumes
    volumes._calls = Told(volumes._calls.engine)
    volume = VolumeMount("v", "/mnt", NamedVolume("export"), sub_path=part, read_only=True)
    mounted = await volumes.prepare(spec(volumes=(volume,)), Undo())
    expected = {"Type": "volume", "Source": "export", "Target": "/mnt", "ReadOnly": True}
    assert mounted.mounts == ({**expected, **({"VolumeOptions": options} if options else {})},)


async def test_a_part_of_a_volume_with_mount_options(
    run: Run, allowing: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str, data: Path
) -> None:
    """Mounted where the Engine can; elsewhere refused by name, and nothing is written beside the volume."""
    (data / "part").mkdir()
    (data / "part" / "file").write_text("")
    name = f"{instance}-options"
    options = {"type": "none", "o": "bind", "device": str(data)}
    made = engine.create_volume(name, driver_opts=options, labels={"opensandbox.io/instance": instance})
    volume = VolumeMount("v", "/mnt", NamedVolume(name), sub_path="part")
    if tuple(int(part) for part in engine.api_version.split(".")) >= SUBPATH_API:
        assert await run("test -f /mnt/file", volume) == 0
        missing = replace(volume, sub_path="missing")
        with pytest.raises(errors.Invalid, match=r"volumes: a subPath is not in its volume") as raised:
            await run("true", missing)
        assert raised.value.code == "VOLUME::INVALID_SUB_PATH"
        return
    with pytest.raises(
        errors.Invalid, match=rf"volumes\[v\]\.subPath: volume '{name}' is one with mount options"
    ) as raised:
        await allowing.create(spec(volumes=(volume,)), print)
    assert raised.value.code == "VOLUME::PVC_SUBPATH_UNSUPPORTED_DRIVER"
    assert os.listdir(made["Mountpoint"]) == []


def test_a_part_that_is_missing_is_told_without_the_hosts_path() -> None:
    """The Engine's words name a directory below its data."""
    said = "failed to mount: cannot access path /var/lib/docker/volumes/v/_data/x: no such file or directory"
    told = start_error(errors.Failed("DOCKER::ENGINE_ERROR", said))
    assert told.code == "VOLUME::INVALID_SUB_PATH"
    assert "/var/lib" not in told.message


@pytest.mark.defect(7)
@pytest.mark.parametrize("goes_with_it", [True, False])
async def test_a_volume_made_for_a_failed_create_goes_again(
    allowing: DockerRuntime, spec: Spec, instance: str, goes_with_it: bool
) -> None:
    """Whether or not it would have outlived the sandbox: nobody has ever seen it. One that was there before stays."""
    before, new = f"{instance}-before", f"{instance}-new"
    await allowing._calls.create_volume(before, {"opensandbox.io/instance": instance})
    volumes = (
        VolumeMount("b", "/b", NamedVolume(before, delete_on_termination=goes_with_it)),
        VolumeMount("n", "/etc/passwd", NamedVolume(new, delete_on_termination=goes_with_it)),
    )
    with pytest.raises(errors.Invalid) as raised:
        await allowing.create(spec(volumes=volumes), print)
    assert raised.value.code == "VOLUME::INVALID_MOUNT_PATH"
    assert await allowing._calls.inspect_volume(new) is None
    assert await allowing._calls.inspect_volume(before) is not None


@pytest.mark.defect(8)
async def test_no_directory_before_the_image_is_there(allowing: DockerRuntime, spec: Spec, data: Path) -> None:
    """A pull that fails has nothing to take back."""
    volume = VolumeMount("a", "/a", HostVolume(str(data / "new")))
    with pytest.raises(errors.Unavailable):
        await allowing.create(spec(image=f"127.0.0.1:{free_port()}/x:1", volumes=(volume,)), print)
    assert os.listdir(data) == []


async def test_a_volume_somebody_else_made_is_not_removed(
    allowing: DockerRuntime, spec: Spec, engine: docker.APIClient, instance: str
) -> None:
    """deleteOnSandboxTermination only means what this create made."""
    name = f"{instance}-foreign"
    engine.create_volume(name, labels={"opensandbox.io/instance": instance})
    volume = VolumeMount("v", "/mnt", NamedVolume(name, delete_on_termination=True))
    made = await allowing.create(spec(volumes=(volume,)), print)
    await allowing.delete(made.id)
    assert await allowing._calls.inspect_volume(name) is not None
