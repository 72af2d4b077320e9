"""Checks of the Engine: that it answers, has the images, and a network on which sandboxes can be dialled."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from manager.doctor.findings import Finding, fail, ok, warn
from manager.domain.errors import Invalid, ManagerError
from manager.runtime.docker.container_defaults import profile
from manager.runtime.docker.engine.client import Calls, Json
from manager.runtime.docker.engine.connection import Engine
from manager.runtime.docker.host.instance_id import instance_of
from manager.runtime.docker.host.own_container import own_container
from manager.runtime.docker.host.topology import (
    GatewayReachable,
    Topology,
    find_place,
    has_user_namespaces,
    is_rootless,
    separate_network_namespace,
    topology,
)
from manager.runtime.docker.labels import ID, INSTANCE
from manager.runtime.docker.networks import gateways
from manager.runtime.docker.readiness import probe_tcp
from manager.runtime.docker.requirements import host_network_obstacle, lacking
from manager.runtime.docker.resolvers import OF_ENGINE, PUBLIC, resolvers_for
from manager.settings.model import Settings

LEAST_VERSION: Final = (20, 10)
ANSWER_TIME: Final = 10.0
CUT_OFF: Final = (
    "this server's container is on an internal network, from which no published port can be dialled: no sandbox can",
    "run it with network_mode 'host', or on a network that is not internal",
)
_ICC: Final = "com.docker.network.bridge.enable_icc"
_LIMITS: Final = {"MemoryLimit": "memory", "CpuCfsQuota": "cpu", "PidsLimit": "pids_limit"}


async def check_engine(settings: Settings) -> AsyncIterator[Finding]:
    """All findings about the Engine; the first says whether it answers."""
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
        for finding in (*_kind(info), *_confinement(settings, info)):
            yield finding
        yield await _image(calls, "execd image", settings.runtime.execd_image)
        if settings.egress.image:
            yield await _image(calls, "egress image", settings.egress.image)
        yield await _instances(calls, instance_of(settings))
        reach = GatewayReachable(separate_network_namespace(info))
        internal = settings.proxy.resolve_internal
        seen = topology(engine.address.remote_host, docker.host_ip, find_place(), reach, internal=internal)
        yield await _network(calls, settings, info, seen)
        if settings.egress.image:
            yield await _resolvers(calls, settings, seen, reach)
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
        found.append(warn("engine", text, "enable the cgroup controllers; requests that name such a limit are refused"))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())


def _gib(info: Json) -> str:
    return f"{int(info.get('MemTotal') or 0) / 2**30:.1f}"


def _kind(info: Json) -> Iterator[Finding]:
    """Rootless Engines and user namespace remapping: their restrictions."""
    if is_rootless(info):
        text = "is rootless: sandboxes are dialled at published ports, and it owns no more of this host than its user"
        yield ok("engine", text)
    if has_user_namespaces(info):
        yield ok("engine", "has user namespaces: root of a sandbox is nobody on the host, its directories included")


def _confinement(settings: Settings, info: Json) -> Iterator[Finding]:
    """Whether sandboxes are confined as the configuration says."""
    docker = settings.docker
    try:
        made = profile(settings)
    except Invalid as error:
        yield fail("seccomp", error.message)
        return
    if docker.seccomp_profile:
        yield ok("seccomp", "the profile can be read")
    lacks = lacking(info, made)
    if docker.allow_isolation:
        yield _isolation(info)
    if docker.apparmor_profile:
        found = ok("apparmor", f"the Engine's host has AppArmor; docker.apparmor_profile = '{docker.apparmor_profile}'")
        yield fail("apparmor", lacks.apparmor) if lacks.apparmor else found
    if made.secure_runtime:
        found = ok("secure runtime", f"{made.secure_runtime} is registered with the Engine")
        yield fail("secure runtime", lacks.runtime) if lacks.runtime else found


def _isolation(info: Json) -> Finding:
    """The risk of `docker.allow_isolation`, which depends on whether root of a container is root of the host."""
    if is_rootless(info) or has_user_namespaces(info):
        return ok("isolation", "allowed; root of a sandbox is nobody on the host, whatever it mounts")
    text = "allowed; a program in a sandbox that is created with it can become root of the host"
    return warn("isolation", text, 'give the Engine "userns-remap", or set docker.allow_isolation = false')


async def _image(calls: Calls, name: str, image: str) -> Finding:
    if await calls.inspect_image(image) is not None:
        return ok(name, f"{image} is on the Engine")
    remedy = f"docker pull {image}; otherwise the first sandbox that needs it waits for the pull"
    return warn(name, f"{image} is not on the Engine", remedy)


async def _resolvers(calls: Calls, settings: Settings, seen: Topology, reach: GatewayReachable) -> Finding:
    """The name servers that egress sidecars use."""
    image = await calls.inspect_image(str(settings.egress.image))
    if image is None:
        return warn("name servers", "those of egress sidecars are looked for when egress.image is on the Engine")
    try:
        found = await resolvers_for(settings, calls, seen, reach).find(image)
    except Invalid as error:
        return fail("name servers", error.message)
    text = f"egress sidecars ask {', '.join(found.addresses)} (from {found.source})"
    if PUBLIC.issuperset(found.addresses) and found.source == OF_ENGINE:
        return warn("name servers", f"{text}, which an Engine offers when its host has none", "set docker.dns")
    return ok("name servers", text)


async def _instances(calls: Calls, own: str) -> Finding:
    """The number of this server's sandboxes, and of other instances', also those that no longer run."""
    found = Counter(entry["Labels"][INSTANCE] for entry in await calls.list_containers([ID, INSTANCE]))
    mine = found.pop(own, 0)
    text = f"{own}, with {mine} of the sandboxes on this Engine"
    if not found:
        return ok("instance", text)
    others = ", ".join(f"{name} ({count})" for name, count in sorted(found.items()))
    return ok("instance", f"{text}; the others need their server, or its docker.instance set here: {others}")


async def _network(calls: Calls, settings: Settings, info: Json, seen: Topology) -> Finding:
    mode = settings.docker.network_mode
    if mode == "host":
        if (obstacle := host_network_obstacle(info)) is not None:
            return fail("network", obstacle)
        text = "host: sandboxes share the network of the Engine's machine, see each other and compete for ports"
        return warn("network", text, 'docker.network_mode = "bridge" isolates them')
    own = settings.docker.network_name
    isolated = mode == "bridge" and not settings.docker.inter_container
    try:
        network = await calls.inspect_network(own if isolated else mode)
    except Invalid as error:
        return fail("network", error.message, "remove all but one of them: docker network ls, docker network rm ID")
    if network is None and not isolated:
        return fail("network", f"{mode} does not exist on the Engine", f"docker network create {mode}")
    found = gateways(network) if network else []
    reached = any(seen.sight.reaches(gateway) for gateway in found)
    if not reached and (network is not None or seen.exposed):
        if await _is_cut_off(calls):
            return fail("network", *CUT_OFF)
        return await _published(settings, seen, own if isolated else mode, found)
    if network is None:
        return ok("network", f"{own} will be made with the first sandbox; it keeps sandboxes apart")
    if (network.get("Options") or {}).get(_ICC) != "false" and not settings.docker.inter_container:
        remedy = f"docker network create -o {_ICC}=false NAME, and name it in docker.network_mode"
        return warn("network", f"{network['Name']}: dialled directly, but sandboxes on it reach each other", remedy)
    return ok("network", f"{network['Name']}: sandboxes are dialled at their own addresses")


async def _is_cut_off(calls: Calls) -> bool:
    """Whether we are in a container whose networks are all internal: what is published on the host is not for them."""
    container = await own_container(calls)
    names = ((container or {}).get("NetworkSettings") or {}).get("Networks") or {}
    networks = [await calls.inspect_network(name) for name in names]
    return bool(networks) and all(network is not None and network.get("Internal") for network in networks)


async def _published(settings: Settings, seen: Topology, name: str, found: Sequence[str]) -> Finding:
    """Containers cannot be dialled: whether published ports can, and who else can dial those."""
    docker, direct = settings.docker, settings.ingress.mode == "direct"
    asked = docker.publish_host if direct else None
    problem = seen.obstacle(asked)
    if problem is not None:
        return fail("network", problem)
    internal = settings.proxy.resolve_internal
    how = "cannot be dialled from here" if internal else "are not dialled (proxy.resolve_internal is off)"
    host = seen.sight.dials(asked or seen.publish_for_us(next(iter(found), None)))
    # A port on which nothing listens: ECONNREFUSED comes from the host, so it is reachable.
    failure = await probe_tcp(host, docker.port_range_max)
    if failure is not None and not isinstance(failure, ConnectionRefusedError):
        text = f"{name}: containers {how}, and {host}, where their ports are published, cannot be dialled"
        return fail("network", f"{text}: {failure.strerror or 'no answer'}", "let us in through its firewall")
    text = f"{name}: containers {how}; sandboxes are reached at published ports, by {host}"
    if direct or not seen.exposed:
        return ok("network", text)
    remedy = "run this server beside the Engine, in a container with network_mode 'host'; secureAccess needs that"
    return warn("network", f"{text}, as other machines or containers can too", remedy)
