"""What the configuration asks of the Engine's host and the host does not have. Pure; asked at every connection.

Nothing runs with less confinement than was configured: an Engine refuses a runtime that it does not know only when a
container asks for it, and on a host without AppArmor it drops the name of a profile without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker.profile import Profile


@dataclass(frozen=True, slots=True)
class Lacking:
    """Why sandboxes cannot be made as configured, in words for an operator: `runtime` those that ask for the secure
    runtime, `apparmor` any; None where nothing is missing."""

    runtime: str | None = None
    apparmor: str | None = None

    def for_anybody(self) -> str | None:
        """What some sandboxes cannot have."""
        return self.apparmor or self.runtime

    def for_one(self, spec: SandboxSpec, profile: Profile) -> str | None:
        """What this sandbox cannot have."""
        return self.apparmor or (self.runtime if spec.secure_runtime or profile.secure_always else None)


def lacking(info: Mapping[str, Any], profile: Profile) -> Lacking:
    """What the Engine that says this of itself lacks."""
    return Lacking(_runtime(info, profile.secure_runtime), _apparmor(info, profile.security))


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
