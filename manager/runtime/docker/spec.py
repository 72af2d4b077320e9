"""Request → body of the Engine's container-create call. Pure; the one place for a container flag.

The body is written as the Engine's API takes it, not through the SDK's helpers: they rename fields and rewrite ports.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manager.domain import errors
from manager.domain.quantities import Limits, parse_limits, parse_requests
from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker import variables
from manager.runtime.docker.codes import INVALID_ENTRYPOINT
from manager.runtime.docker.container_defaults import Profile
from manager.runtime.docker.isolation import check_isolation, isolated, isolation_privileges
from manager.runtime.docker.labels import sandbox_labels

Json = dict[str, Any]

EXECD_MOUNT = "/.opensandbox"
"""Where the volume with execd appears: a path that no image has files at, unlike /opt/opensandbox."""
ARCHIVE_FOLDER = "/opt/opensandbox"
"""Where execd is copied to when no volume is used: the default of the bootstrap script."""

EGRESS_ENV_PREFIX = "OPENSANDBOX_EGRESS_"
TRANSPARENT = EGRESS_ENV_PREFIX + "MITMPROXY_TRANSPARENT"
"""The variable that tells both sides whether the sidecar intercepts TLS."""
OWN_VARIABLES = ("OPENSANDBOX_ID", "EXECD", variables.NAME, "EXECD_INIT", TRANSPARENT)
"""Variables that the server sets: never inherited from an image, which may be a snapshot of another sandbox."""
UNPOLICED = ("NET_ADMIN", "NET_RAW")
"""Capabilities that bypass a network policy: the first changes packet filters, and either (since Linux 5.17) may set
the packet mark by which the sidecar recognises its own traffic."""
DEFAULT_ENTRYPOINT = ("tail", "-f", "/dev/null")
CORE_SHARES, LEAST_SHARES, MOST_SHARES = 1024, 2, 262144


@dataclass(frozen=True, slots=True)
class Wiring:
    """A container's network: the Engine's `NetworkMode`, and container port → (address, port) published.

    The port may be a range such as "40000-60000": the Engine takes one that is free.
    """

    mode: str
    publish: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    def exposed(self) -> Json:
        """The published ports as `ExposedPorts`."""
        return {f"{port}/tcp": {} for port in self.publish}

    def bindings(self) -> Json:
        """The published ports as `PortBindings`."""
        return {f"{port}/tcp": [{"HostIp": host, "HostPort": ports}] for port, (host, ports) in self.publish.items()}


@dataclass(frozen=True, slots=True)
class Extras:
    """Results of earlier steps of a create: `execd_volume` None means execd is copied in before the start.

    `envs` is where a restored sandbox has its file of variables.
    """

    image: str
    wiring: Wiring
    execd_volume: str | None = None
    mounts: tuple[Json, ...] = ()
    binds: tuple[str, ...] = ()
    owned_volumes: tuple[str, ...] = ()
    egress_token: str | None = None
    pool: tuple[str, str] = ("", "")
    envs: str = ""


def container_name(sandbox_id: str) -> str:
    """The name of a sandbox's container."""
    return f"sandbox-{sandbox_id}"


def needs_archive(spec: SandboxSpec) -> bool:
    """Whether execd is copied in: with a policy its folder is the sidecar's volume, with isolation it is written to."""
    return spec.network_policy is not None or isolated(spec)


def container_body(spec: SandboxSpec, profile: Profile, extras: Extras) -> Json:
    """The body of the create call.

    Raises Invalid for an entrypoint or a limit that makes no sense, Forbidden for an isolation that is not allowed.
    """
    command = entrypoint(spec)
    folder = EXECD_MOUNT if extras.execd_volume else ARCHIVE_FOLDER
    body: Json = {
        "Image": extras.image,
        "Entrypoint": [f"{folder}/bootstrap.sh"],
        "Cmd": list(command),
        "Env": environment(spec, profile, extras),
        "Labels": sandbox_labels(
            spec,
            profile.instance,
            entrypoint=command,
            egress_token=extras.egress_token,
            volumes=extras.owned_volumes,
            pool=extras.pool,
        ),
        "Tty": False,
        "OpenStdin": False,
        "HostConfig": host_config(spec, profile, extras),
    }
    if extras.wiring.publish:
        body["ExposedPorts"] = extras.wiring.exposed()
    return body


def entrypoint(spec: SandboxSpec) -> tuple[str, ...]:
    """The command as an argument list: a single string with spaces is split as a shell would."""
    command = spec.entrypoint or DEFAULT_ENTRYPOINT
    if len(command) == 1 and " " in command[0]:
        try:
            command = tuple(shlex.split(command[0]))
        except ValueError as error:
            raise errors.Invalid(INVALID_ENTRYPOINT, f"entrypoint {command[0]!r} cannot be split: {error}") from error
    if not command or not command[0]:
        raise errors.Invalid(INVALID_ENTRYPOINT, "entrypoint must name a program.")
    return command


def environment(spec: SandboxSpec, profile: Profile, extras: Extras) -> list[str]:
    """Configured variables, then the request's, then the server's; not the sidecar's.

    None removes a variable of the image too: for the Engine, a name without `=` does that.
    """
    merged: dict[str, str | None] = {**profile.env, **spec.env}
    merged = {key: value for key, value in merged.items() if not key.startswith(EGRESS_ENV_PREFIX)}
    if profile.execd_as_init:
        merged["EXECD_INIT"] = "1"
    merged.setdefault("EXECD_INIT", None)
    merged["OPENSANDBOX_ID"] = spec.id
    merged["EXECD"] = f"{EXECD_MOUNT if extras.execd_volume else ARCHIVE_FOLDER}/execd"
    merged[variables.NAME] = extras.envs or (variables.IN_CONTAINER if extras.execd_volume else variables.BESIDE_EXECD)
    merged[TRANSPARENT] = _transparent(spec)
    return [key if value is None else f"{key}={value}" for key, value in merged.items()]


def _transparent(spec: SandboxSpec) -> str | None:
    """Without a sidecar the sandbox would wait for a certificate authority forever, so the variable is left out."""
    if spec.credential_proxy:
        return "true"
    return spec.env.get(TRANSPARENT) if spec.network_policy is not None else None


def host_config(spec: SandboxSpec, profile: Profile, extras: Extras) -> Json:
    """Limits, privileges, network and mounts."""
    limits = parse_limits(spec.resource_limits)
    requests = parse_requests(spec.resource_requests, limits)
    mounts = list(extras.mounts)
    if extras.execd_volume:
        mounts.append({"Type": "volume", "Source": extras.execd_volume, "Target": EXECD_MOUNT, "ReadOnly": True})
    config: Json = {
        "NetworkMode": extras.wiring.mode,
        "PortBindings": extras.wiring.bindings(),
        **shares(limits, requests),
        "PidsLimit": profile.pids,
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in profile.ulimits] or None,
        "DeviceRequests": [{"Count": limits.gpus, "Capabilities": [["gpu"]]}] if limits.gpus else None,
        "StorageOpt": {"size": str(limits.disk)} if limits.disk else None,
        "Binds": [*profile.binds, *extras.binds] or None,
        "Mounts": mounts or None,
        # A container in another's network namespace shares its /etc/hosts; the Engine refuses ExtraHosts there.
        "Dns": None if extras.wiring.mode.startswith("container:") else list(profile.dns) or None,
        "Runtime": profile.secure_runtime if spec.secure_runtime or profile.secure_always else None,
        **privileges(spec, profile),
    }
    return {key: value for key, value in config.items() if value is not None}


def shares(limits: Limits, requests: Limits) -> Json:
    """The resource limits and requests (CPU shares, memory reservation) of a container; None where not given."""
    return {
        "Memory": limits.memory,
        "NanoCpus": limits.nano_cpus,
        "MemoryReservation": requests.memory,
        "CpuShares": cpu_shares(requests.nano_cpus),
    }


def cpu_shares(nanos: int | None) -> int | None:
    """CPU shares for so many billionths of a core: 1024 per core, as in Kubernetes."""
    return None if nanos is None else min(max(nanos * CORE_SHARES // 10**9, LEAST_SHARES), MOST_SHARES)


def privileges(spec: SandboxSpec, profile: Profile) -> Json:
    """Capabilities and security options, with what isolation needs on top."""
    drop = list(profile.drop)
    if spec.network_policy is not None:
        drop += [name for name in UNPOLICED if name not in drop]
    if isolated(spec):
        check_isolation(
            spec, profile
        )  # refused at the request already; checked again since every container is built here
        return isolation_privileges(profile, drop)
    return {"CapDrop": drop or None, "SecurityOpt": list(profile.security) or None}
