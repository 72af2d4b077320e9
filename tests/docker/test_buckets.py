"""Object-storage volumes on a real Engine: mounted for one sandbox, gone with it, and no secret left anywhere.

The programs `ossfs` and `ossfs2` are stand-ins that bind a directory where the real ones mount a bucket.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from manager.api.errors import status_of
from manager.domain import errors
from manager.domain.sandbox import BucketVolume, HostVolume, NamedVolume, SandboxSpec, VolumeMount
from manager.runtime.docker.buckets import Buckets, mount_command, mounted_below
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, make_settings

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]

SECRET = "s3cret-of-the-bucket"
BUCKET = BucketVolume("my-data", "oss.example.com", "key-id", SECRET)
DATA = VolumeMount("data", "/data", BUCKET)
OSSFS2 = """#!/bin/sh
# ossfs2 mount <path> -c <file>
path=$2 conf=$4
cat "$conf" >>"$STORE/asked"
grep -q "oss_access_key_secret=$SECRET" "$conf" || { echo "denied: $(cat "$conf")" >&2; exit 3; }
bucket=$(sed -n 's/^--oss_bucket=//p' "$conf")
prefix=$(sed -n 's/^--oss_bucket_prefix=//p' "$conf")
exec mount --bind "$STORE/$bucket/$prefix" "$path"
"""
OSSFS = """#!/bin/sh
# ossfs <bucket>[:/<prefix>] <path> -o …
echo "$@" >>"$STORE/asked"
for option in "$@"; do case $option in passwd_file=*) cat "${option#passwd_file=}" >>"$STORE/asked" ;; esac; done
exec mount --bind "$STORE/$(echo "$1" | tr -d :)" "$2"
"""
SLOW = "#!/bin/sh\nexec sleep 600\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bucket `my-data` with a file in it and one below `part`; `programs` are found before any real ones."""
    folder, programs = tmp_path / "store", tmp_path / "programs"
    (folder / "my-data" / "part").mkdir(parents=True)
    (folder / "my-data" / "file").write_text("hello")
    (folder / "my-data" / "part" / "file").write_text("part")
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name, text in (("ossfs", OSSFS), ("ossfs2", OSSFS2)):
        install(programs / name, text, folder)
    return folder


def install(program: Path, text: str, store: Path) -> None:
    """A program that knows where the buckets are."""
    program.write_text(text.replace("#!/bin/sh\n", f"#!/bin/sh\nSTORE={store} SECRET={SECRET}\n", 1))
    program.chmod(0o755)


@pytest.fixture
async def mounting(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, store: Path
) -> AsyncIterator[DockerRuntime]:
    """A runtime that mounts below a directory of the test's own."""
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, storage=root(tmp_path)))
    yield runtime
    await asyncio.gather(*(runtime.delete(sandbox.id) for sandbox in await runtime.list()))
    assert mounted_below(str(tmp_path)) == []


def root(tmp_path: Path) -> dict[str, str]:
    """Where buckets are mounted."""
    return {"ossfs_mount_root": str(tmp_path / "mounts")}


def running(script: str) -> tuple[str, ...]:
    """An entrypoint whose exit code is the script's."""
    return ("sh", "-c", script)


@pytest.mark.request_field("volumes.ossfs.bucket", "volumes.ossfs.version")
@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_a_bucket_is_there_as_a_directory(
    mounting: DockerRuntime, spec: Spec, store: Path, engine: docker.APIClient, version: str
) -> None:
    """The whole of it writable, a part of it read-only; both gone with the sandbox, what was written stays."""
    source = replace(BUCKET, version=version)
    volumes = (
        VolumeMount("whole", "/whole", source),
        VolumeMount("part", "/part", source, read_only=True, sub_path="part"),
    )
    script = "grep -q hello /whole/file && grep -q part /part/file && ! touch /part/x && echo new > /whole/new"
    made = await mounting.create(spec(entrypoint=running(script), volumes=volumes), print)
    ended = await asyncio.to_thread(engine.wait, f"sandbox-{made.id}")
    assert ended["StatusCode"] == 0
    await mounting.delete(made.id)
    assert mounting._volumes.buckets.owners() == {}
    assert (store / "my-data" / "new").read_text() == "new\n"


@pytest.mark.request_field("volumes.ossfs.accessKeyId", "volumes.ossfs.accessKeySecret")
async def test_credentials_go_to_the_program_alone(
    mounting: DockerRuntime, spec: Spec, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a private file that is gone afterwards: not in the container, not in the log, not on disk."""
    caplog.set_level("DEBUG")
    asked = spec(volumes=(DATA,))
    made = await mounting.create(asked, print)
    assert SECRET in (store / "asked").read_text()
    assert SECRET not in str(await mounting._calls.inspect_container(f"sandbox-{made.id}")) + repr(asked) + caplog.text
    (store / "asked").unlink()
    search = ["grep", "-rl", SECRET, str(tmp_path)]
    found = await asyncio.to_thread(lambda: subprocess.run(search, capture_output=True, text=True, check=False))
    assert {Path(line).parent.name for line in found.stdout.splitlines()} <= {"programs"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (replace(BUCKET, access_key_secret="wrong-one"), "ended with code 3: denied"),
        (replace(BUCKET, bucket="no-such"), "ended with code"),
        (replace(BUCKET, bucket="no-such", version="1.0"), "'ossfs' ended with code"),
    ],
)
async def test_a_mount_that_fails_leaves_nothing(
    mounting: DockerRuntime, spec: Spec, source: BucketVolume, words: str
) -> None:
    """500 with what the program said, without the credentials."""
    asked = spec(volumes=(VolumeMount("data", "/data", source),))
    with pytest.raises(errors.Failed) as raised:
        await mounting.create(asked, print)
    assert (status_of(raised.value), raised.value.code) == (500, "VOLUME::OSSFS_MOUNT_FAILED")
    assert words in raised.value.message
    assert source.access_key_secret not in raised.value.message
    assert mounting._volumes.buckets.owners() == {}
    assert await mounting.get(asked.id) is None


async def test_a_program_that_is_not_installed(
    mounting: DockerRuntime, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says which one."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.Failed, match="'ossfs2' cannot be run") as raised:
        await mounting.create(spec(volumes=(DATA,)), print)
    assert raised.value.code == "VOLUME::OSSFS_MOUNT_FAILED"


async def test_a_program_that_hangs(
    mounting: DockerRuntime, spec: Spec, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, and the create fails."""
    monkeypatch.setattr("manager.runtime.docker.buckets.LIMIT", 0.5)
    install(tmp_path / "programs" / "ossfs2", SLOW, store)
    with pytest.raises(errors.Failed, match="not mounted within") as raised:
        await mounting.create(spec(volumes=(DATA,)), print)
    assert raised.value.code == "VOLUME::OSSFS_MOUNT_FAILED"
    assert mounting._volumes.buckets.owners() == {}


async def test_a_root_that_cannot_be_used(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, store: Path, spec: Spec
) -> None:
    """A file is in the way: 500 naming the key."""
    (tmp_path / "mounts").write_text("")
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, storage=root(tmp_path)))
    with pytest.raises(errors.Failed, match=r"storage\.ossfs_mount_root") as raised:
        await runtime.create(spec(volumes=(DATA,)), print)
    assert (status_of(raised.value), raised.value.code) == (500, "VOLUME::INVALID_OSSFS_MOUNT_ROOT")


async def test_a_create_that_fails_later_takes_the_mount_back(mounting: DockerRuntime, spec: Spec) -> None:
    """The second volume does not exist and must not be made."""
    missing = VolumeMount("b", "/b", NamedVolume("no-such-volume", create_if_not_exists=False))
    with pytest.raises(errors.Invalid):
        await mounting.create(spec(volumes=(DATA, missing)), print)
    assert mounting._volumes.buckets.owners() == {}


async def test_mounts_of_a_sandbox_that_is_gone_are_taken_back_at_the_next_start(
    started: Started,
    spec: Spec,
    engine: docker.APIClient,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    store: Path,
) -> None:
    """Somebody removed the container while no server ran; those of a sandbox that lives stay."""
    settings = make_settings(images[1], instance, tmp_path, storage=root(tmp_path))
    first, _ = await started(settings)
    gone, lives = [await first.create(spec(volumes=(DATA,)), print) for _ in range(2)]
    await first.stop()
    await asyncio.to_thread(engine.remove_container, f"sandbox-{gone.id}", force=True)
    second, _ = await started(settings, leftover_grace=0.0)
    assert set(second._volumes.buckets.owners()) == {lives.id}
    assert await second.delete(lives.id)
    assert mounted_below(str(tmp_path)) == []


async def test_a_mount_that_stays_is_logged(
    mounting: DockerRuntime, spec: Spec, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox is deleted all the same; the next start tries again."""
    made = await mounting.create(spec(volumes=(DATA,)), print)
    with monkeypatch.context() as patched:
        patched.setattr("manager.runtime.docker.buckets.UNMOUNTS", (("false",),))
        assert await mounting.delete(made.id)
    assert "VOLUME::OSSFS_UNMOUNT_FAILED" in caplog.text
    assert set(mounting._volumes.buckets.owners()) == {made.id}
    await mounting._volumes.buckets.release(made.id)


async def test_the_buckets_of_others_are_no_directory_to_mount(mounting: DockerRuntime, spec: Spec) -> None:
    """Neither the folder nor one that holds it, once there is one."""
    await mounting.create(spec(volumes=(DATA,)), print)
    for path in (mounting._volumes.buckets.folder, os.path.dirname(mounting._volumes.buckets.folder)):
        with pytest.raises(errors.Invalid) as raised:
            mounting.check(spec(volumes=(VolumeMount("x", "/x", HostVolume(path)),)))
        assert raised.value.code == "VOLUME::HOST_PATH_NOT_ALLOWED"


def test_an_engine_elsewhere_cannot_see_our_mounts() -> None:
    """Refused before anything is mounted."""
    with pytest.raises(errors.Invalid, match="ossfs"):
        Buckets("/mnt", "i", local=False).check(DATA)


@pytest.mark.request_field("volumes.ossfs.endpoint", "volumes.ossfs.options")
def test_what_the_programs_are_told() -> None:
    """Version 1.0 as options and a password file, 2.0 as a file of flags; a scheme is added where there is none."""
    first = replace(BUCKET, version="1.0", options=("ro", "max_stat_cache_size=0"))
    argv, text = mount_command(first, "a/./b", "/m", "/s")
    assert argv[:3] == ["ossfs", "my-data:/a/b", "/m"]
    assert argv[3::2] == ["-o"] * 4
    assert argv[4::2] == ["url=https://oss.example.com", "passwd_file=/s", "ro", "max_stat_cache_size=0"]
    assert text == f"my-data:key-id:{SECRET}\n"
    second = replace(BUCKET, endpoint="http://oss.example.com:8080", options=("ro",))
    argv, text = mount_command(second, "a", "/m", "/s")
    assert argv == ["ossfs2", "mount", "/m", "-c", "/s"]
    assert text.splitlines() == [
        "--oss_endpoint=http://oss.example.com:8080",
        "--oss_bucket=my-data",
        "--oss_access_key_id=key-id",
        f"--oss_access_key_secret={SECRET}",
        "--oss_bucket_prefix=a/",
        "--ro",
    ]
