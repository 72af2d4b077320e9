"""Isolation by execd: what bubblewrap needs works inside, and which ways out of the sandbox that opens, by trying them.

What an Engine with user namespaces makes of it is in `test_user_namespaces.py`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import HostVolume, SandboxSpec, VolumeMount
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker import escapes

pytestmark = pytest.mark.timeout(60)
Spec = Callable[..., SandboxSpec]
Inside = Callable[..., Awaitable[str]]
ISOLATED = {"bootstrap.execd.isolation": "enable"}
ALLOWED = {"allow_isolation": True}
TRY_ALL = ("python3", "-c", Path(escapes.__file__).read_text())
UNAVOIDABLE = {"sockets to the hypervisor"}
"""What Engines before 23 give every container; later ones refuse it."""
OPEN_TO_NOBODY = {"tmpfs", "network namespace", "a /proc of its own"}
"""What whoever may mount has anyhow, and what harms nobody outside."""
OPEN_TO_ROOT = {
    *OPEN_TO_NOBODY,
    "core_pattern in a /proc of its own",
    "core_pattern below its mask",
    "core_pattern with its mask remounted",
    "release_agent of a cgroup hierarchy",
    "a cgroup2 hierarchy",
    "/sys remounted",
    "debugfs",
}
"""What mounting opens besides where root of the sandbox is root of the host: it is documented, and why it is off."""
SESSION = (
    "--unshare-pid --unshare-uts --hostname sandbox --unshare-ipc --unshare-cgroup --ro-bind / / --tmpfs /tmp "
    "--tmpfs /run --dev /dev --proc /proc --bind /var /var --die-with-parent --"
)
"""How execd starts a session."""


@pytest.fixture
def bubblewrap(tmp_path: Path) -> VolumeMount:
    """bubblewrap with its libraries, for images that have none."""
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("needs the package bubblewrap")
    folder = tmp_path / "tools"
    folder.mkdir()
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for file in (program, *re.findall(r"/\S+", linked)):
        shutil.copy(file, folder)
    return VolumeMount("tools", "/tools", HostVolume(str(folder)), read_only=True)


@pytest.mark.request_field("extensions.bootstrap.execd.isolation")
async def test_a_session_of_execd_is_isolated(inside: Inside, bubblewrap: VolumeMount) -> None:
    """It sees no process but its own, has another host name, and writes only where it may."""
    look = 'mkdir -p /run; /tools/bwrap $0 sh -c "ps ax | wc -l; cat /proc/sys/kernel/hostname; touch /x; touch /var/x"'
    look = look.replace("ps ax | wc -l", "ls /proc | grep -c ^[0-9]")
    told = await inside(
        "sh",
        "-c",
        f"export LD_LIBRARY_PATH=/tools; {look.replace('$0', SESSION)} && echo done",
        docker=ALLOWED,
        extensions=ISOLATED,
        volumes=(bubblewrap,),
        env={"PYTHONUNBUFFERED": "1"},
    )
    lines = told.splitlines()
    assert int(lines[0]) < 6
    assert lines[1] == "sandbox"
    assert "Read-only file system" in told
    assert lines[-1] == "done"


async def test_ways_out_of_a_sandbox(inside: Inside) -> None:
    """Without isolation none is open."""
    assert set((await inside(*TRY_ALL)).splitlines()) <= UNAVOIDABLE


async def test_ways_out_of_an_isolated_sandbox(inside: Inside) -> None:
    """Those that mounting opens, and no other: files of the host do not open for writing until something is mounted."""
    told = set((await inside(*TRY_ALL, docker=ALLOWED, extensions=ISOLATED)).splitlines())
    assert told <= OPEN_TO_ROOT
    assert told >= {"tmpfs", "core_pattern in a /proc of its own"}


async def test_isolation_is_the_operators_to_allow(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient
) -> None:
    """A request that asks for it is refused by the name of the key, and nothing is made."""
    for word in ("enable", "enabled", " TRUE "):
        asked = spec(extensions={"bootstrap.execd.isolation": word})
        with pytest.raises(errors.Forbidden, match=r"docker\.allow_isolation = true"):
            await runtime.create(asked, print)
        assert engine.containers(all=True, filters={"name": asked.id}) == []
    made: Any = await runtime.create(spec(extensions={"bootstrap.execd.isolation": "disable"}), print)
    assert engine.inspect_container(f"sandbox-{made.id}")["HostConfig"]["CapAdd"] is None
