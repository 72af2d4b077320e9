"""What a caller asked for when creating a sandbox, before it has an id: shapes already checked, rules not yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from manager.domain.sandbox import NetworkPolicy, Platform, RegistryAuth, VolumeMount

PROXY_NEEDS_POLICY = "credentialProxy.enabled requires networkPolicy."
"""A rule of the request alone, for admission and for a runtime that is asked without it."""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A create as the caller worded it; `timeout` is in seconds, None means it lives until it is deleted.

    `template_id` and `lifecycle_hooks` are carried only to be refused by name where no runtime offers them.
    """

    image: str | None = None
    image_auth: RegistryAuth | None = None
    snapshot_id: str | None = None
    template_id: str | None = None
    platform: Platform | None = None
    timeout: int | None = None
    entrypoint: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    resource_limits: Mapping[str, str] = field(default_factory=dict)
    resource_requests: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[VolumeMount, ...] = ()
    network_policy: NetworkPolicy | None = None
    credential_proxy: bool = False
    secure_access: bool = False
    secure_runtime: bool = False
    lifecycle_hooks: bool = False
