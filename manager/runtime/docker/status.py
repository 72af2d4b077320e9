"""`docker inspect` of a container → sandbox. Pure; the one place that knows the Engine's field names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from manager.domain.sandbox import Addresses, Sandbox, SandboxState, SandboxStatus
from manager.runtime.docker.labels import ID, SIDECAR_FOR, Facts, read_time

Json = Mapping[str, Any]
LOOPBACK = "127.0.0.1"
_ANY_ADDRESS = ("", "0.0.0.0", "::")
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class DialView:
    """How the Engine's networks are dialled: `engine_host` is where published ports are, `reaches(gateway)` says
    whether containers behind that gateway address can be dialled directly.

    `private`: `engine_host` is valid for this process alone, such as the default gateway of its container's network.
    """

    engine_host: str
    reaches: Callable[[str], bool]
    private: bool = False

    def dials(self, published_on: str) -> str:
        """Where a port is dialled that the Engine published on this address of its host."""
        elsewhere = self.engine_host != LOOPBACK and not self.private
        return self.engine_host if elsewhere or published_on in _ANY_ADDRESS else published_on


def sandbox_from(details: Json, sidecar: Json | None, sight: DialView, facts: Facts) -> Sandbox:
    """The sandbox that an inspected container is; with a network policy, `sidecar` owns its network."""
    created = facts.created_at or read_time(details.get("Created")) or _EPOCH
    return Sandbox(
        id=facts.id,
        uid=lifecycle_uid(details, sidecar),
        status=_with_sidecar(status_of(details), details, sidecar),
        created_at=created,
        expires_at=facts.expires_at,
        manual_cleanup=facts.manual_cleanup,
        image=None if facts.snapshot_id else facts.image or details["Config"].get("Image"),
        snapshot_id=facts.snapshot_id,
        platform=facts.platform,
        entrypoint=facts.entrypoint or tuple(details["Config"].get("Cmd") or ()),
        metadata=facts.metadata,
        extensions=facts.extensions,
        addresses=addresses_of(sidecar or details, details, sight),
        secure_token=facts.secure_token,
        egress_token=facts.egress_token,
        owner=facts.owner,
    )


def lifecycle_uid(details: Json, sidecar: Json | None = None) -> str:
    """The lifecycle uid: changes with the processes behind the addresses (another container, or a restarted one)."""
    own = f"{details['Id'][:24]}@{details['State'].get('StartedAt', '')}"
    return f"{own}+{lifecycle_uid(sidecar)}" if sidecar else own


def status_of(details: Json) -> SandboxStatus:
    """State, reason and message from the Engine's state, its health check and its out-of-memory mark."""
    engine = details["State"]
    state, reason, message = _phase(engine)
    return SandboxStatus(state, reason, message, _since(details, state))


def network_owner(details: Json) -> str | None:
    """The container whose network an inspected container shares, or None."""
    mode, _, owner = str(details["HostConfig"].get("NetworkMode", "")).partition(":")
    return owner if mode == "container" else None


def _fate(details: Json, sidecar: Json | None) -> str | None:
    """Why the sidecar no longer provides the network that a running sandbox was started in; None if it does."""
    if sidecar is None:
        return "was removed"
    if not sidecar["State"].get("Running"):
        return f"ended with code {sidecar['State'].get('ExitCode', 0)}"
    joined, begun = (read_time(entry["State"].get("StartedAt")) for entry in (details, sidecar))
    return "was started again" if joined and begun and begun > joined else None


def _with_sidecar(status: SandboxStatus, details: Json, sidecar: Json | None) -> SandboxStatus:
    """A sandbox runs on when its sidecar ends, but the network went with the sidecar and does not come back."""
    if status.state is not SandboxState.RUNNING or network_owner(details) is None:
        return status
    fate = _fate(details, sidecar)
    if fate is None:
        return status
    message = f"Sandbox container is running without a network: its egress sidecar {fate}. Create another sandbox."
    ended = read_time(sidecar["State"].get("FinishedAt")) if sidecar is not None else None
    return replace(
        status, reason="EGRESS_SIDECAR_STOPPED", message=message, last_transition_at=ended or status.last_transition_at
    )


def _phase(engine: Json) -> tuple[SandboxState, str, str]:
    word = engine.get("Status")
    if engine.get("Paused"):
        return SandboxState.PAUSED, "CONTAINER_PAUSED", "Sandbox container is paused."
    if engine.get("Restarting"):
        return SandboxState.RUNNING, "CONTAINER_RESTARTING", "Sandbox container is restarting."
    if engine.get("Running"):
        return SandboxState.RUNNING, *_running(engine)
    if word in ("created", "starting"):
        return SandboxState.PENDING, "CONTAINER_STARTING", "Sandbox container is starting."
    if word == "removing":
        return SandboxState.STOPPING, "CONTAINER_REMOVING", "Sandbox container is being removed."
    if word in ("exited", "dead"):
        return _ended(engine)
    return SandboxState.UNKNOWN, "CONTAINER_STATE_UNKNOWN", f"Sandbox container is in state {word}."


def _running(engine: Json) -> tuple[str, str]:
    message = "Sandbox container is running."
    if (engine.get("Health") or {}).get("Status") == "unhealthy":
        return "CONTAINER_UNHEALTHY", f"{message} Its health check fails."
    if engine.get("OOMKilled"):
        return "CONTAINER_RUNNING", f"{message} A process in it was killed because the memory limit was reached."
    return "CONTAINER_RUNNING", message


def _ended(engine: Json) -> tuple[SandboxState, str, str]:
    code = engine.get("ExitCode", 0)
    if engine.get("OOMKilled") and code:
        return SandboxState.FAILED, "CONTAINER_OOM_KILLED", f"Sandbox container ran out of memory (exit code {code})."
    if code == 0:
        return SandboxState.TERMINATED, "CONTAINER_EXITED", "Sandbox container exited successfully."
    message = f"Sandbox container exited with code {code}."
    if engine.get("Error"):
        message += f" {engine['Error']}"
    return SandboxState.FAILED, "CONTAINER_EXITED_ERROR", message


def _since(details: Json, state: SandboxState) -> datetime | None:
    engine = details["State"]
    ended = state in (SandboxState.FAILED, SandboxState.TERMINATED)
    time = read_time(engine.get("FinishedAt")) if ended else read_time(engine.get("StartedAt"))
    return time or read_time(details.get("Created"))


def addresses_of(network: Json, details: Json, sight: DialView) -> Addresses:
    """Where the ports are: `network` is the container whose network it is, the sidecar's where there is one."""
    private = sight.engine_host if sight.private else None
    if network["HostConfig"].get("NetworkMode") == "host":
        return Addresses(
            dial_host=sight.engine_host if details["State"].get("Running") else None,
            host_network=True,
            private_host=private,
        )
    attached = (network["NetworkSettings"].get("Networks") or {}).values()
    own = tuple(entry["IPAddress"] for entry in attached if entry.get("IPAddress"))
    direct = (entry["IPAddress"] for entry in attached if entry.get("IPAddress") and sight.reaches(entry["Gateway"]))
    published = _published(network, sight)
    return Addresses(own=own, dial_host=next(direct, None), published=published, private_host=private)


def _published(network: Json, sight: DialView) -> dict[int, tuple[str, int]]:
    found: dict[int, tuple[str, int]] = {}
    for name, bindings in (network["NetworkSettings"].get("Ports") or {}).items():
        port, _, protocol = name.partition("/")
        for binding in bindings or ():
            if protocol == "tcp" and ":" not in binding["HostIp"]:
                found[int(port)] = (sight.dials(binding["HostIp"]), int(binding["HostPort"]))
    return found


def fingerprint(entry: Json) -> tuple[object, ...]:
    """The fields of a list entry that change with the container: equal fingerprints need no inspect."""
    return entry["Id"], entry["State"], _attached(entry)


def fingerprint_of(details: Json) -> tuple[object, ...]:
    """The fingerprint that the list entry of an inspected container has."""
    return details["Id"], details["State"].get("Status"), _attached(details)


def _attached(container: Json) -> frozenset[tuple[str, str]]:
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return frozenset((name, network.get("IPAddress") or "") for name, network in networks.items())


def is_sidecar(entry: Json) -> str | None:
    """The id of the sandbox this container is the egress sidecar of, or None."""
    return (entry.get("Labels") or {}).get(SIDECAR_FOR) or None


def is_sandbox(entry: Json) -> str | None:
    """The id of the sandbox this container is, or None."""
    return (entry.get("Labels") or {}).get(ID) or None
