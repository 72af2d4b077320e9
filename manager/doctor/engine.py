"""What the Docker runtime needs of its Engine: an answer, images, a network on which sandboxes can be dialled."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, Final

from manager.doctor.findings import Finding, fail, ok, warn
from manager.domain.errors import ManagerError
from manager.runtime.docker.calls import Calls, Json
from manager.runtime.docker.engine import Engine
from manager.runtime.docker.networks import outlook
from manager.runtime.docker.profile import secure_runtime_name
from manager.settings.model import Settings

LEAST_VERSION: Final = (20, 10)
ANSWER_TIME: Final = 10.0
_ICC: Final = "com.docker.network.bridge.enable_icc"
_LIMITS: Final = {"MemoryLimit": "memory", "CpuCfsQuota": "cpu", "PidsLimit": "pids_limit"}


async def check_engine(settings: Settings) -> AsyncIterator[Finding]:
    """Everything about the Engine; the first finding says whether there is any."""
    docker = settings.docker
    environment = {**os.environ, "DOCKER_HOST": docker.host} if docker.host else dict(os.environ)
    engine = Engine(environment, timeout=ANSWER_TIME, silence=ANSWER_TIME)
    try:
        calls = Calls(engine)
        try:
            info = await calls.info()
        except ManagerError as error:
            yield fail("engine", error.message, "docker info shows what the Engine says; DOCKER_HOST says where it is")
            return
        for finding in _engine(engine.address.url, info):
            yield finding
        for finding in _secure_runtime(settings, info):
            yield finding
        yield await _image(calls, "execd image", settings.runtime.execd_image)
        if settings.egress.image:
            yield await _image(calls, "egress image", settings.egress.image)
        yield await _network(calls, settings, engine.address.remote_host)
    finally:
        engine.close()


def _engine(url: str, info: Json) -> list[Finding]:
    version = str(info.get("ServerVersion") or "?")
    found = [ok("engine", f"{url}: version {version}, {info.get('NCPU')} CPUs, {_gib(info)} GiB")]
    if info.get("OSType") != "linux":
        found.append(fail("engine", f"runs {info.get('OSType')} containers", "switch it to Linux containers"))
    if _numbers(version) < LEAST_VERSION:
        found.append(warn("engine", f"version {version} is older than 20.10", "update Docker Engine"))
    lacking = [word for name, word in _LIMITS.items() if info.get(name) is False]
    if lacking:
        text = f"its kernel cannot enforce limits on {', '.join(lacking)}"
        found.append(warn("engine", text, "enable the cgroup controllers, or accept sandboxes without these limits"))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())


def _gib(info: Json) -> str:
    return f"{int(info.get('MemTotal') or 0) / 2**30:.1f}"


def _secure_runtime(settings: Settings, info: Json) -> list[Finding]:
    secure = settings.secure_runtime
    name = secure_runtime_name(secure.type, secure.oci_runtime_name)
    if name is None:
        return []
    known = sorted(info.get("Runtimes") or {})
    if name in known:
        return [ok("secure runtime", f"{name} is registered with the Engine")]
    remedy = 'register it in the Engine\'s daemon.json below "runtimes", or change secure_runtime.oci_runtime_name'
    return [fail("secure runtime", f"{name} is not registered with the Engine, which knows {', '.join(known)}", remedy)]


async def _image(calls: Calls, name: str, image: str) -> Finding:
    if await calls.inspect_image(image) is not None:
        return ok(name, f"{image} is on the Engine")
    remedy = f"docker pull {image}; otherwise the first sandbox that needs it waits for the pull"
    return warn(name, f"{image} is not on the Engine", remedy)


async def _network(calls: Calls, settings: Settings, remote_host: str | None) -> Finding:
    mode = settings.docker.network_mode
    if mode == "host":
        text = "host: sandboxes share the network of the Engine's machine, see each other and compete for ports"
        return warn("network", text, 'docker.network_mode = "bridge" isolates them')
    own = settings.docker.network_name
    isolated = mode == "bridge" and not settings.docker.inter_container
    network = await calls.inspect_network(own if isolated else mode)
    if network is None and isolated:
        return ok("network", f"{own} will be made with the first sandbox; it keeps sandboxes apart")
    if network is None:
        return fail("network", f"{mode} does not exist on the Engine", f"docker network create {mode}")
    return _reach(settings, network, remote_host)


def _reach(settings: Settings, network: Json, remote_host: str | None) -> Finding:
    name = str(network.get("Name"))
    ranges: list[dict[str, Any]] = (network.get("IPAM") or {}).get("Config") or []
    view = outlook(remote_host, settings.docker.host_ip).sight
    direct = any(view.reaches(entry.get("Gateway", "")) for entry in ranges)
    if not direct:
        text = f"{name}: containers cannot be dialled from here; sandboxes are reached at published ports of "
        return ok("network", text + view.engine_host)
    if (network.get("Options") or {}).get(_ICC) != "false" and not settings.docker.inter_container:
        remedy = f"docker network create -o {_ICC}=false NAME, and name it in docker.network_mode"
        return warn("network", f"{name}: dialled directly, but sandboxes on it reach each other", remedy)
    return ok("network", f"{name}: sandboxes are dialled at their own addresses")
