"""A sandbox as the manager sees it: its states, the legal moves between them, what was asked for and what there is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

EXECD_PORT = 44772
HTTP_PORT = 8080
EGRESS_PORT = 18080
"""The ports every client knows: execd, the conventional application port, and the egress sidecar's API."""


class SandboxState(enum.StrEnum):
    """States as the wire spells them."""

    PENDING = "Pending"
    RUNNING = "Running"
    PAUSING = "Pausing"
    PAUSED = "Paused"
    RESUMING = "Resuming"
    STOPPING = "Stopping"
    TERMINATED = "Terminated"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """State with the reason in capitals and a sentence for people."""

    state: SandboxState
    reason: str | None = None
    message: str | None = None
    last_transition_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and architecture, both in lower case (`linux`, `windows`; `amd64`, `arm64`)."""

    os: str
    arch: str


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials for one pull; never logged, stored or shown."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """One egress rule."""

    action: str
    target: str


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """What the egress sidecar enforces; a missing default action means deny."""

    default_action: str | None = None
    egress: tuple[NetworkRule, ...] = ()


@dataclass(frozen=True, slots=True)
class HostVolume:
    """A directory of the Engine's host."""

    path: str


@dataclass(frozen=True, slots=True)
class NamedVolume:
    """A volume of the runtime (a Docker volume, a PersistentVolumeClaim)."""

    claim_name: str
    create_if_not_exists: bool = True
    delete_on_termination: bool = False
    storage_class: str | None = None
    storage: str | None = None
    access_modes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BucketVolume:
    """A bucket of an object storage, mounted for one sandbox; its credentials are never logged, stored or shown.

    `version` is that of the program that mounts it; `options` are passed on to that.
    """

    bucket: str
    endpoint: str
    access_key_id: str = field(repr=False)
    access_key_secret: str = field(repr=False)
    version: str = "2.0"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """One volume and where it appears in the sandbox."""

    name: str
    mount_path: str
    source: HostVolume | NamedVolume | BucketVolume
    read_only: bool = False
    sub_path: str | None = None


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a caller asked for, validated and normalised; what a runtime creates from.

    `env` values of None remove the key from the configured environment. `expires_at` None means manual cleanup.
    `resource_limits` and `resource_requests` hold the wire notation (`{"cpu": "500m", "memory": "512Mi"}`);
    `secure_token` is set when the sandbox is secured. `owner` is the name of the API key it is created with, empty
    without one.
    """

    id: str
    created_at: datetime
    expires_at: datetime | None
    image: str | None = None
    image_auth: RegistryAuth | None = None
    snapshot_id: str | None = None
    platform: Platform | None = None
    entrypoint: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    resource_limits: Mapping[str, str] = field(default_factory=dict)
    resource_requests: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[VolumeMount, ...] = ()
    network_policy: NetworkPolicy | None = None
    credential_proxy: bool = False
    secure_token: str | None = None
    secure_runtime: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a sandbox's ports are: for dialling by the gateway, and for direct endpoints of clients.

    `dial_host`: an address on which we reach every port; `published`: port inside → (host we dial, port on that
    host); `host_network`: the sandbox shares the network of the Engine's host, so ports inside are ports there;
    `own`: the addresses its own connections come from, which is how the API knows a caller inside a sandbox;
    `private_host`: an address of the Engine's host that only this process can use; clients use the server's own host.
    """

    own: tuple[str, ...] = ()
    dial_host: str | None = None
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    host_network: bool = False
    private_host: str | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that exists, as its runtime reports it (with what only the store knows overlaid by the services)."""

    id: str
    uid: str
    status: SandboxStatus
    created_at: datetime
    expires_at: datetime | None = None
    manual_cleanup: bool = False
    image: str | None = None
    snapshot_id: str | None = None
    platform: Platform | None = None
    entrypoint: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    addresses: Addresses = field(default_factory=Addresses)
    secure_token: str | None = None
    egress_token: str | None = None
    owner: str = ""

    @property
    def relayed(self) -> frozenset[int]:
        """Ports that are reached through execd's `/proxy/{port}` only, whatever else leads there.

        The egress sidecar accepts secrets on connections from its own network namespace only, and execd is in that.
        """
        return frozenset((EGRESS_PORT,) if self.egress_token else ())
