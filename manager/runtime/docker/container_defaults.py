"""What the configuration gives every sandbox, read once at start: the part of a container that no request changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manager.domain import errors
from manager.runtime.docker.codes import INVALID_SECURITY_PROFILE
from manager.runtime.docker.host.instance_id import instance_of
from manager.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Profile:
    """`publish_on` is the address ports are published on; None where none are published unless dialling needs it."""

    instance: str
    network_mode: str
    publish_on: str | None
    ports: range
    ulimits: tuple[tuple[str, int, int], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    pids: int | None = None
    execd_as_init: bool = False
    secure_runtime: str | None = None
    secure_always: bool = False
    secure_kind: str = ""
    allow_isolation: bool = False
    dns: tuple[str, ...] = ()


def profile(settings: Settings) -> Profile:
    """The profile that the settings describe. Raises Invalid when a seccomp file cannot be read."""
    docker = settings.docker
    runtime = settings.secure_runtime
    return Profile(
        instance=instance_of(settings),
        network_mode=docker.network_mode,
        publish_on=None if settings.ingress.mode == "gateway" else docker.publish_host,
        ports=range(docker.port_range_min, docker.port_range_max + 1),
        ulimits=tuple(_ulimit(name, text) for name, text in docker.ulimits.items()),
        env=dict(docker.sandbox_env),
        binds=tuple(docker.sandbox_binds),
        security=security_options(docker.no_new_privileges, docker.apparmor_profile, docker.seccomp_profile),
        drop=tuple(docker.drop_capabilities),
        pids=docker.pids_limit,
        execd_as_init=settings.runtime.execd_run_as_init,
        allow_isolation=docker.allow_isolation,
        secure_kind=runtime.type,
        dns=docker.dns,
        secure_runtime=secure_runtime_name(runtime.type, runtime.oci_runtime_name or runtime.docker_runtime),
        # The documentation's spelling is opt-in per request; any other is 1.1.1's, which is for every sandbox.
        secure_always=bool(runtime.type and (runtime.docker_runtime or not runtime.oci_runtime_name)),
    )


def _ulimit(name: str, text: str) -> tuple[str, int, int]:
    soft, _, hard = text.partition(":")
    return name, int(soft), int(hard or soft)


def security_options(no_new_privileges: bool, apparmor: str | None, seccomp: str | None) -> tuple[str, ...]:
    """`SecurityOpt` of a container; a seccomp profile that is a path is read, because the Engine takes JSON only."""
    options = ["no-new-privileges=true"] if no_new_privileges else []
    if apparmor:
        options.append(f"apparmor={apparmor}")
    if seccomp:
        options.append(f"seccomp={_seccomp(seccomp)}")
    return tuple(options)


def _seccomp(value: str) -> str:
    """The profile as the Engine takes it; looked at now, since the Engine would refuse every single start."""
    if value == "unconfined":
        return value
    text, name = (value, "its text") if value.lstrip().startswith("{") else (_read(value), value)
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise errors.Invalid(
            INVALID_SECURITY_PROFILE, f"docker.seccomp_profile: {name} is not JSON: {error}"
        ) from error
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise errors.Invalid(
            INVALID_SECURITY_PROFILE, f"docker.seccomp_profile: {name} is not a JSON object with a defaultAction"
        )
    return text


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.Invalid(
            INVALID_SECURITY_PROFILE, f"docker.seccomp_profile: {path} cannot be read: {error}"
        ) from error


_DEFAULT_RUNTIMES = {
    "gvisor": "runsc",
    "kata": "kata-runtime",
    "kata-qemu": "kata-qemu",
    "kata-fc": "kata-fc",
    "kata-clh": "kata-clh",
}


def secure_runtime_name(kind: str, configured: str | None) -> str | None:
    """The name under which the Engine knows the secure runtime; None when none is configured."""
    return (configured or _DEFAULT_RUNTIMES.get(kind)) if kind else None
