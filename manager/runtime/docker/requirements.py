"""Preflight: configured features that the Engine's host does not support. Pure; checked at every connection.

Nothing runs with less confinement than was configured: an Engine refuses an unknown OCI runtime only when a container
uses it, and on a host without AppArmor it ignores a profile silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker.container_defaults import Profile
from manager.runtime.docker.host.topology import has_user_namespaces, is_rootless


@dataclass(frozen=True, slots=True)
class Missing:
    """Why sandboxes cannot be made as configured, in words for an operator: `runtime` those that ask for the secure
    runtime, `host_network` those on the network of the host, `apparmor` any; None where nothing is missing."""

    runtime: str | None = None
    apparmor: str | None = None
    host_network: str | None = None

    def for_all(self, profile: Profile) -> str | None:
        """Features that some sandboxes cannot use."""
        return self.apparmor or self._network(profile) or self.runtime

    def for_spec(self, spec: SandboxSpec, profile: Profile) -> str | None:
        """What is missing for this sandbox."""
        secured = spec.secure_runtime or profile.secure_always
        return self.apparmor or self._network(profile) or (self.runtime if secured else None)

    def _network(self, profile: Profile) -> str | None:
        return self.host_network if profile.network_mode == "host" else None


def lacking(info: Mapping[str, Any], profile: Profile) -> Missing:
    """The features that the Engine of this `docker info` lacks."""
    return Missing(
        runtime=_runtime(info, profile.secure_runtime),
        apparmor=_apparmor(info, profile.security),
        host_network=host_network_obstacle(info),
    )


def _runtime(info: Mapping[str, Any], name: str | None) -> str | None:
    known = info.get("Runtimes") or {}
    if name is None or name in known:
        return None
    return (
        f"the Docker Engine does not know the secure runtime '{name}'; register it with the Engine, or change "
        f"[secure_runtime] (registered: {', '.join(sorted(known))})"
    )


def _apparmor(info: Mapping[str, Any], security: tuple[str, ...]) -> str | None:
    profiles = [option.removeprefix("apparmor=") for option in security if option.startswith("apparmor=")]
    has_apparmor = any(option.startswith("name=apparmor") for option in info.get("SecurityOptions") or ())
    if not profiles or profiles == ["unconfined"] or has_apparmor:
        return None
    return (
        f"the Docker Engine's host has no AppArmor, so docker.apparmor_profile = '{profiles[0]}' would confine "
        "nothing; remove the key, or use a host with AppArmor"
    )


def host_network_obstacle(info: Mapping[str, Any]) -> str | None:
    """Why containers of this Engine cannot share the network of its host; None when they can."""
    remedy = "set docker.network_mode = 'bridge'"
    if is_rootless(info):
        return f"the Docker Engine is rootless: the network it calls 'host' cannot be dialled from here; {remedy}"
    if has_user_namespaces(info):
        return f"the Docker Engine has user namespaces, which share no network with the host; {remedy}"
    return None
