"""The egress sidecar: a container that owns a sandbox's network, enforces its policy, and starts before it.

The sandbox joins the sidecar's network without the right to change it. Sidecar and sandbox share one volume at execd's
usual folder, which is why such sandboxes get execd as a copy. Everything is labelled with the sandbox's id, so it is
found and removed whatever happens in between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from manager.domain import errors
from manager.domain.sandbox import EGRESS_PORT, EXECD_PORT, HTTP_PORT, NetworkPolicy, SandboxSpec
from manager.runtime.docker import labels
from manager.runtime.docker.calls import Calls
from manager.runtime.docker.images import Images
from manager.runtime.docker.profile import Profile
from manager.runtime.docker.spec import ARCHIVE_FOLDER, EGRESS_ENV_PREFIX, Wiring
from manager.runtime.docker.status import Sight, addresses_of
from manager.runtime.docker.undo import Undo
from manager.settings.sandboxes import EgressSettings

log = logging.getLogger(__name__)
Json = dict[str, Any]

INVALID = "SANDBOX::INVALID_PARAMETER"
START_FAILED = "DOCKER::SANDBOX_START_FAILED"
AUTH_HEADER = "OPENSANDBOX-EGRESS-AUTH"
PORTS = (EXECD_PORT, HTTP_PORT, EGRESS_PORT)
TRANSPARENT = EGRESS_ENV_PREFIX + "MITMPROXY_TRANSPARENT"
REQUESTABLE = frozenset(
    EGRESS_ENV_PREFIX + name
    for name in (
        "LOG_LEVEL",
        "DNS_UPSTREAM_TIMEOUT",
        "MITMPROXY_SSL_INSECURE",
        "MITMPROXY_TRANSPARENT",
        "MITMPROXY_EXTRA_PORTS",
        "DENY_WEBHOOK",
        "METRICS_EXTRA_ATTRS",
        "CREDENTIAL_VAULT_REQUIRE_TLS",
        "CREDENTIAL_VAULT_REQUIRE_SCOPED_MATCH",
        "CREDENTIAL_VAULT_TRUSTED_PROXY_CIDRS",
        "POLICY_FILE",
    )
)
"""Settings of the sidecar that a request may make through its environment."""
_NO_IPV6 = {f"net.ipv6.conf.{scope}.disable_ipv6": "1" for scope in ("all", "default", "lo")}
_POLL = 0.1
"""Seconds between two looks at a sidecar that is coming up."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that is ready: its container and its API's token."""

    container_id: str
    token: str = field(repr=False)


def sidecar_name(sandbox_id: str) -> str:
    """The name of a sidecar's container."""
    return f"sandbox-egress-{sandbox_id}"


def shared_volume(sandbox_id: str) -> str:
    """The volume that sandbox and sidecar share."""
    return f"opensandbox-runtime-{sandbox_id}"


def check_policy(spec: SandboxSpec, profile: Profile, settings: EgressSettings) -> None:
    """Raises Invalid when a policy is asked for that cannot be enforced here."""
    if spec.network_policy is None:
        if spec.credential_proxy:
            raise errors.Invalid(INVALID, "credentialProxy.enabled requires networkPolicy.")
        return
    if profile.network_mode != "bridge":
        message = f"networkPolicy is not supported when docker network_mode={profile.network_mode}."
        raise errors.Invalid(INVALID, message)
    if settings.image is None:
        raise errors.Invalid(INVALID, "networkPolicy needs egress.image to be configured.")
    if profile.secure_kind == "gvisor" and (spec.secure_runtime or profile.secure_always):
        message = "networkPolicy: gVisor lacks what the egress sidecar redirects lookups with; use a kata runtime."
        raise errors.Invalid(INVALID, message)
    if spec.credential_proxy and settings.mode != "dns+nft":
        raise errors.Invalid(INVALID, "credentialProxy.enabled requires egress.mode = 'dns+nft'.")
    for key in spec.env:
        if key.startswith(EGRESS_ENV_PREFIX) and key not in REQUESTABLE:
            raise errors.Invalid(INVALID, f"env: '{key}' is not for requests to set.")


def policy_json(policy: NetworkPolicy) -> str:
    """The policy as the sidecar reads it."""
    document: Json = {"egress": [{"action": rule.action, "target": rule.target} for rule in policy.egress]}
    if policy.default_action is not None:
        document["defaultAction"] = policy.default_action
    return json.dumps(document)


def sidecar_body(
    spec: SandboxSpec, profile: Profile, settings: EgressSettings, wiring: Wiring, token: str, *, ipv6: bool
) -> Json:
    """The body of the sidecar's create call. Pure."""
    host: Json = {
        "NetworkMode": wiring.mode,
        "CapAdd": ["NET_ADMIN"],
        "Mounts": [{"Type": "volume", "Source": shared_volume(spec.id), "Target": ARCHIVE_FOLDER}],
        "PortBindings": {
            f"{port}/tcp": [{"HostIp": address, "HostPort": str(number)}]
            for port, (address, number) in wiring.publish.items()
        },
    }
    if not ipv6:
        host["Sysctls"] = _NO_IPV6
    return {
        "Image": settings.image,
        "Env": [f"{key}={value}" for key, value in _environment(spec, settings, token).items()],
        "Labels": {**labels.blank(), labels.SIDECAR_FOR: spec.id, labels.INSTANCE: profile.instance},
        "ExposedPorts": {f"{port}/tcp": {} for port in wiring.publish},
        "HostConfig": host,
    }


def _environment(spec: SandboxSpec, settings: EgressSettings, token: str) -> Mapping[str, str]:
    made = {
        "OPENSANDBOX_EGRESS_RULES": policy_json(spec.network_policy or NetworkPolicy()),
        "OPENSANDBOX_EGRESS_MODE": settings.mode,
        "OPENSANDBOX_EGRESS_TOKEN": token,
        "OPENSANDBOX_EGRESS_SANDBOX_ID": spec.id,
    }
    if settings.otlp_endpoint:
        made["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otlp_endpoint
    if spec.credential_proxy:
        made[TRANSPARENT] = "true"
    asked = {key: value for key, value in spec.env.items() if key in REQUESTABLE and value is not None}
    return {**made, **asked}


class Egress:
    """Starts sidecars, waits for them, and removes them."""

    def __init__(self, calls: Calls, images: Images, settings: EgressSettings, profile: Profile, view: Sight) -> None:
        self._calls = calls
        self._images = images
        self._settings = settings
        self._profile = profile
        self._view = view

    def check(self, spec: SandboxSpec) -> None:
        """Raises Invalid when a policy is asked for that cannot be enforced here."""
        check_policy(spec, self._profile, self._settings)

    async def start(self, spec: SandboxSpec, wiring: Wiring, undo: Undo) -> Sidecar:
        """A sidecar that enforces the policy already. Raises Failed when it does not get ready in time."""
        token = secrets.token_urlsafe(24)
        await self._images.ensure(str(self._settings.image), platform=None, auth=None, progress=log.info)
        await self._make_volume(spec, undo)
        name = sidecar_name(spec.id)
        undo.push(f"container {name}", lambda: self._calls.remove_container(name))
        container_id = await self._create(spec, wiring, token, name)
        await self._calls.start(container_id)
        await self._wait_until_ready(container_id, token, spec.id)
        return Sidecar(container_id, token)

    async def remove(self, sandbox_id: str) -> None:
        """Removes the sidecar of a sandbox and what they shared; none is fine."""
        details = await self._calls.inspect_container(sidecar_name(sandbox_id))
        if details is not None and (details["Config"].get("Labels") or {}).get(labels.SIDECAR_FOR) == sandbox_id:
            await self._calls.remove_container(details["Id"])

    async def _make_volume(self, spec: SandboxSpec, undo: Undo) -> None:
        name = shared_volume(spec.id)
        undo.push(f"volume {name}", lambda: self._calls.remove_volume(name))
        owner = {labels.INSTANCE: self._profile.instance, labels.VOLUME_FOR: spec.id, labels.VOLUMES: "server"}
        await self._calls.create_volume(name, owner)

    async def _create(self, spec: SandboxSpec, wiring: Wiring, token: str, name: str) -> str:
        """Without IPv6 if configured so; a kernel that has no such switch has no IPv6 to switch off."""
        ipv6 = not self._settings.disable_ipv6
        body = sidecar_body(spec, self._profile, self._settings, wiring, token, ipv6=ipv6)
        try:
            return await self._calls.create_container(name, body)
        except (errors.Failed, errors.Invalid) as error:
            if ipv6 or "disable_ipv6" not in error.message:
                raise
            log.warning("sandbox %s: IPv6 cannot be switched off here: %s", spec.id, error.message)
        await self._calls.remove_container(name)
        return await self._calls.create_container(
            name, sidecar_body(spec, self._profile, self._settings, wiring, token, ipv6=True)
        )

    async def _wait_until_ready(self, container_id: str, token: str, sandbox_id: str) -> None:
        limit = self._settings.readiness_timeout_seconds
        try:
            async with asyncio.timeout(limit), aiohttp.ClientSession() as session:
                while not await self._ready(session, container_id, token):  # noqa: ASYNC110 - it announces nothing
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            message = f"Egress sidecar did not become ready within {limit:g}s for sandbox {sandbox_id}."
            raise errors.Failed(START_FAILED, message) from None

    async def _ready(self, session: aiohttp.ClientSession, container_id: str, token: str) -> bool:
        details = await self._calls.inspect_container(container_id)
        if details is None or not details["State"].get("Running"):
            code = details["State"].get("ExitCode") if details else None
            raise errors.Failed(START_FAILED, f"Egress sidecar container ended with code {code}.")
        found = addresses_of(details, details, self._view)
        host, port = (found.dial_host, EGRESS_PORT) if found.dial_host else found.published.get(EGRESS_PORT, ("", 0))
        if not host:
            return False
        try:
            url = f"http://{host}:{port}/healthz"
            async with session.get(url, headers={AUTH_HEADER: token}, timeout=aiohttp.ClientTimeout(total=1)) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False
