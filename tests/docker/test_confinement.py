"""Limits and privileges as they hold inside a sandbox, not as they were asked for.

No machine of ours has a GPU or AppArmor. For these the tests show what such a machine's user gets: a refusal with the
reason, and nothing left; that the Engine would be asked for the right thing is shown in `test_spec.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import SandboxSpec, SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.docker import DROPPED_CAPABILITIES
from manager.settings.model import Settings
from tests.docker.harness import Events, make_settings

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Inside = Callable[..., Awaitable[str]]
NUMBERS = {
    "NET_ADMIN": 12, "NET_RAW": 13, "SYS_MODULE": 16, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_TIME": 25,
    "SYS_TTY_CONFIG": 26, "MKNOD": 27, "AUDIT_WRITE": 29,
}  # fmt: skip
"""Capabilities as the kernel counts them."""
CHOWN = 0
NO_FOLDERS = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}
STATUS = ("grep", "-E", "NoNewPrivs|CapBnd|CapEff|Seccomp:", "/proc/self/status")
QUOTA = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null"
FORK_ALL = """
import os, time
count = 0
try:
    while count < 200:
        if os.fork() == 0:
            time.sleep(600)
        count += 1
    print("no limit")
except BlockingIOError:
    print("forked", count)
"""


def fields(text: str) -> dict[str, int]:
    """The lines of a process's status, sets of capabilities as numbers."""
    pairs = (line.split(":") for line in text.splitlines())
    return {name: int(value, 16) for name, value in pairs}


async def test_capabilities_are_gone_and_cannot_come_back(inside: Inside) -> None:
    """Those that are dropped by default are in no set of the process; others are, and setuid programs gain nothing."""
    status = fields(await inside(*STATUS))
    assert set(DROPPED_CAPABILITIES) == set(NUMBERS)
    for name, number in NUMBERS.items():
        assert not (status["CapBnd"] | status["CapEff"]) >> number & 1, name
    assert status["CapEff"] >> CHOWN & 1
    assert status["NoNewPrivs"] == 1
    assert status["Seccomp"] == 2


async def test_what_an_operator_leaves_is_left(inside: Inside) -> None:
    """An empty list drops nothing of what the Engine gives, and the other key is heeded too."""
    status = fields(await inside(*STATUS, docker={"drop_capabilities": [], "no_new_privileges": False}))
    assert status["CapEff"] >> NUMBERS["NET_RAW"] & 1
    assert status["NoNewPrivs"] == 0


@pytest.mark.defect(15)
async def test_a_seccomp_profile_from_a_file(inside: Inside, tmp_path: Path) -> None:
    """A call that it forbids fails inside, also for root."""
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(NO_FOLDERS))
    tell = ("sh", "-c", "mkdir /tmp/x 2>&1; touch /tmp/y && echo touched")
    told = await inside(*tell, docker={"seccomp_profile": str(profile)})
    assert "Operation not permitted" in told
    assert "touched" in told


async def test_a_fork_bomb_ends_at_the_limit(inside: Inside) -> None:
    """All processes of the sandbox count, execd's too."""
    told = await inside("python3", "-c", FORK_ALL, docker={"pids_limit": 40})
    word, count = told.split()
    assert word == "forked"
    assert 0 < int(count) < 40


@pytest.mark.parametrize("unlimited", [0, "unlimited"])
async def test_no_limit_of_processes(inside: Inside, unlimited: object) -> None:
    """Both spellings of none."""
    assert await inside("python3", "-c", FORK_ALL, docker={"pids_limit": unlimited}) == "no limit"


async def test_ulimits(inside: Inside) -> None:
    """Soft and hard limit, as the shell inside sees them."""
    told = await inside("bash", "-c", "ulimit -Sn; ulimit -Hn", docker={"ulimits": {"nofile": "64:128"}})
    assert told.split() == ["64", "128"]


async def test_cpu_time(inside: Inside) -> None:
    """Half a processor: 50 of every 100 ms."""
    assert (await inside("sh", "-c", QUOTA, resource_limits={"cpu": "500m"})).split()[0] == "50000"


async def test_environment_and_binds_of_the_configuration(inside: Inside, tmp_path: Path) -> None:
    """Every sandbox gets them; a request overrides a variable or takes it away."""
    (tmp_path / "note").write_text("from the host\n")
    docker = {"sandbox_env": {"A": "1", "B": "2", "C": "3"}, "sandbox_binds": [f"{tmp_path}/note:/note:ro"]}
    tell = ("sh", "-c", 'cat /note; echo "$A $B ${C-gone}"; (echo >> /note) 2>/dev/null || echo kept')
    told = await inside(*tell, docker=docker, env={"B": "two", "C": None})
    assert told.splitlines()[:2] == ["from the host", "1 two gone"]
    assert told.endswith("kept")


async def test_a_gpu_on_a_machine_without(runtime: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """The Engine's reason is told, and nothing is left."""
    asked = spec(resource_limits={"gpu": "1"})
    with pytest.raises(errors.Invalid, match="gpu: the Engine cannot give this") as raised:
        await runtime.create(asked, print)
    assert raised.value.code == "SANDBOX::INVALID_PARAMETER"
    assert engine.containers(all=True, filters={"name": asked.id}) == []


async def test_apparmor(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec, engine: docker.APIClient
) -> None:
    """Where the host has it the profile is in force; elsewhere nothing is made as if it were."""
    settings: Settings = make_settings(images[1], instance, tmp_path, docker={"apparmor_profile": "docker-default"})
    runtime, _ = await started(settings)
    asked = spec()
    if "name=apparmor" in engine.info()["SecurityOptions"]:
        made = await runtime.create(asked, print)
        assert made.status.state is SandboxState.RUNNING
        assert engine.inspect_container(f"sandbox-{made.id}")["AppArmorProfile"] == "docker-default"
        await runtime.delete(made.id)
        return
    assert "docker.apparmor_profile = 'docker-default'" in str(runtime.degraded())
    with pytest.raises(errors.Unavailable, match="AppArmor"):
        await runtime.create(asked, print)
    assert await runtime.get(asked.id) is None
