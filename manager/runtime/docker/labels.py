"""The labels on every object that this server creates, and how they are read back.

An image's labels leak into its containers (a commit even keeps those of the container it was made from), so every
label that is read is written at create, empty without a value. The caller's metadata is one JSON label:
it can neither collide with ours nor be confused with an image's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from manager.domain.sandbox import Platform, SandboxSpec

PREFIX = "opensandbox.io/"
ID = PREFIX + "id"
INSTANCE = PREFIX + "instance"
CREATED_AT = PREFIX + "created-at"
EXPIRES_AT = PREFIX + "expires-at"
MANUAL_CLEANUP = PREFIX + "manual-cleanup"
METADATA = PREFIX + "metadata"
EXTENSIONS = PREFIX + "extensions"
IMAGE = PREFIX + "image"
ENTRYPOINT = PREFIX + "entrypoint"
SNAPSHOT_ID = PREFIX + "snapshot-id"
PLATFORM_OS = PREFIX + "platform-os"
PLATFORM_ARCH = PREFIX + "platform-arch"
SECURE_TOKEN = PREFIX + "secure-access-token"
EGRESS_TOKEN = PREFIX + "egress-auth-token"
VOLUMES = PREFIX + "volume-managed-by"
POOL = PREFIX + "pool"
POOL_TEMPLATE = PREFIX + "pool-template"
CLAIM = PREFIX + "claim"
OWNER = PREFIX + "owner"

SIDECAR_FOR = PREFIX + "egress-sidecar-for"
VOLUME_FOR = PREFIX + "volume-for"
HELPER = PREFIX + "helper"
HELPS_EXECD = f"{HELPER}=execd"
"""Filter for helper containers; by value, since every sandbox carries the label with none."""
EXECD_VOLUME = PREFIX + "execd-volume"
NETWORK = PREFIX + "network"
SNAPSHOT = PREFIX + "snapshot"
SNAPSHOT_ENVS = PREFIX + "snapshot-envs"

SANDBOX_LABELS = (
    ID, INSTANCE, CREATED_AT, EXPIRES_AT, MANUAL_CLEANUP, METADATA, EXTENSIONS, IMAGE, ENTRYPOINT, SNAPSHOT_ID,
    PLATFORM_OS, PLATFORM_ARCH, SECURE_TOKEN, EGRESS_TOKEN, VOLUMES, POOL, POOL_TEMPLATE, OWNER, SIDECAR_FOR,
    HELPER,
)  # fmt: skip
"""Every label that is read from a container: all of them are always written."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a sandbox that its labels hold."""

    id: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    manual_cleanup: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    entrypoint: tuple[str, ...] = ()
    snapshot_id: str | None = None
    platform: Platform | None = None
    secure_token: str | None = None
    egress_token: str | None = None
    volumes: tuple[str, ...] = ()
    pool: str | None = None
    owner: str = ""


def sandbox_labels(
    spec: SandboxSpec,
    instance: str,
    *,
    entrypoint: tuple[str, ...],
    egress_token: str | None = None,
    volumes: tuple[str, ...] = (),
    pool: tuple[str, str] = ("", ""),
) -> dict[str, str]:
    """The labels of a sandbox's container; `volumes` are removed with it, `pool` is its pool's name and template."""
    said = {
        ID: spec.id,
        INSTANCE: instance,
        CREATED_AT: spec.created_at.isoformat(),
        EXPIRES_AT: spec.expires_at.isoformat() if spec.expires_at else "",
        MANUAL_CLEANUP: "" if spec.expires_at else "true",
        METADATA: json.dumps(dict(spec.metadata)),
        EXTENSIONS: json.dumps(dict(spec.extensions)),
        IMAGE: spec.image or "",
        ENTRYPOINT: json.dumps(entrypoint),
        SNAPSHOT_ID: spec.snapshot_id or "",
        PLATFORM_OS: spec.platform.os if spec.platform else "",
        PLATFORM_ARCH: spec.platform.arch if spec.platform else "",
        SECURE_TOKEN: spec.secure_token or "",
        EGRESS_TOKEN: egress_token or "",
        VOLUMES: json.dumps(volumes),
        POOL: pool[0],
        POOL_TEMPLATE: pool[1],
        OWNER: spec.owner,
    }
    return {**blank(), **said}


def blank() -> dict[str, str]:
    """Every label that is read, with an empty value."""
    return dict.fromkeys(SANDBOX_LABELS, "")


def read_facts(labels: Mapping[str, str]) -> Facts:
    """Parses the labels; a malformed label counts as absent, so that a sandbox is never lost over one."""
    os, arch = labels.get(PLATFORM_OS), labels.get(PLATFORM_ARCH)
    expires_at = read_time(labels.get(EXPIRES_AT))
    return Facts(
        id=labels.get(ID, ""),
        created_at=read_time(labels.get(CREATED_AT)),
        expires_at=expires_at,
        manual_cleanup=labels.get(MANUAL_CLEANUP) == "true",
        metadata=_read_map(labels.get(METADATA)),
        extensions=_read_map(labels.get(EXTENSIONS)),
        image=labels.get(IMAGE) or None,
        entrypoint=_read_list(labels.get(ENTRYPOINT)),
        snapshot_id=labels.get(SNAPSHOT_ID) or None,
        platform=Platform(os, arch) if os and arch else None,
        secure_token=labels.get(SECURE_TOKEN) or None,
        egress_token=labels.get(EGRESS_TOKEN) or None,
        volumes=_read_list(labels.get(VOLUMES)),
        pool=labels.get(POOL) or None,
        owner=labels.get(OWNER, ""),
    )


def read_time(text: str | None) -> datetime | None:
    """A time as ISO 8601 with any number of fractional digits (Docker writes nanoseconds); None for Docker's zero."""
    if not text or text.startswith("0001-"):
        return None
    head, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{head}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _read_map(text: str | None) -> dict[str, str]:
    value = _read_json(text)
    return {str(key): str(entry) for key, entry in value.items()} if isinstance(value, dict) else {}


def _read_list(text: str | None) -> tuple[str, ...]:
    value = _read_json(text)
    return tuple(str(entry) for entry in value) if isinstance(value, list) else ()


def _read_json(text: str | None) -> object:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
