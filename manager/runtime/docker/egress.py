"""The egress sidecar: a container that owns a sandbox's network, enforces its policy, and starts before it.

The sandbox joins the sidecar's network namespace without the capability to change it. Sidecar and sandbox share one
volume at execd's usual folder, which is why such sandboxes get execd as a copy. Everything is labelled with the
sandbox's id, so it is found and removed whatever happens in between.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from manager.domain import errors
from manager.domain.sandbox import EGRESS_PORT, EXECD_PORT, HTTP_PORT, SandboxSpec
from manager.runtime.base import Progress
from manager.runtime.docker import labels
from manager.runtime.docker.codes import SANDBOX_START_FAILED
from manager.runtime.docker.container_defaults import Profile
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.error_mapping import sidecar_ended, sidecar_error
from manager.runtime.docker.images import Images
from manager.runtime.docker.resolvers import Resolvers
from manager.runtime.docker.rollback import Undo
from manager.runtime.docker.sidecar import (
    Plan,
    check_policy,
    program_of,
    shared_volume,
    sidecar_body,
    sidecar_name,
)
from manager.runtime.docker.spec import Wiring
from manager.runtime.docker.status import DialView, addresses_of
from manager.settings.sandboxes import EgressSettings

log = logging.getLogger(__name__)

AUTH_HEADER = "OPENSANDBOX-EGRESS-AUTH"
PORTS = (EXECD_PORT, HTTP_PORT, EGRESS_PORT)
_TOKEN_BYTES = 24
_POLL = 0.1
"""Seconds between two readiness probes of a starting sidecar."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that is ready: its container and its API's token."""

    container_id: str
    token: str = field(repr=False)


class Egress:
    """Starts sidecars, waits for them, and removes them."""

    def __init__(
        self,
        calls: Calls,
        images: Images,
        settings: EgressSettings,
        profile: Profile,
        view: DialView,
        resolvers: Resolvers,
    ) -> None:
        self._calls = calls
        self._images = images
        self._resolvers = resolvers
        self._settings = settings
        self._profile = profile
        self._view = view

    def check(self, spec: SandboxSpec) -> None:
        """Raises Invalid when a policy is asked for that cannot be enforced here."""
        check_policy(spec, self._profile, self._settings)

    async def start(self, spec: SandboxSpec, wiring: Wiring, undo: Undo, progress: Progress) -> Sidecar:
        """Starts a sidecar; returns once it enforces the policy. Raises Failed when it is not ready in time."""
        image = await self._pull(progress)
        upstreams = await self._resolvers.find(image)
        plan = Plan(secrets.token_urlsafe(_TOKEN_BYTES), upstreams, program_of(image))
        await self._make_volume(spec, undo)
        name = sidecar_name(spec.id)
        undo.push(f"container {name}", lambda: self._calls.remove_container(name))
        container_id = await self._run(spec, wiring, plan, name)
        await self._wait_until_ready(container_id, plan.token, spec.id)
        return Sidecar(container_id, plan.token)

    async def remove(self, sandbox_id: str) -> None:
        """Removes the sidecar of a sandbox and their shared volume; a missing one is no error."""
        details = await self._calls.inspect_container(sidecar_name(sandbox_id))
        if details is not None and (details["Config"].get("Labels") or {}).get(labels.SIDECAR_FOR) == sandbox_id:
            await self._calls.remove_container(details["Id"])

    async def _pull(self, progress: Progress) -> dict[str, Any]:
        """The caller did not choose this image, so its failures are the server's errors, not the caller's."""
        image = str(self._settings.image)
        try:
            return await self._images.ensure(image, platform=None, auth=None, progress=progress)
        except (errors.Invalid, errors.NotFound, errors.Forbidden) as error:
            raise errors.Failed(SANDBOX_START_FAILED, f"egress.image: {error.message}") from error

    async def _make_volume(self, spec: SandboxSpec, undo: Undo) -> None:
        name = shared_volume(spec.id)
        undo.push(f"volume {name}", lambda: self._calls.remove_volume(name))
        owner = {labels.INSTANCE: self._profile.instance, labels.VOLUME_FOR: spec.id, labels.VOLUMES: "server"}
        await self._calls.create_volume(name, owner)

    async def _run(self, spec: SandboxSpec, wiring: Wiring, plan: Plan, name: str) -> str:
        """With IPv6 disabled by sysctl if so configured; a kernel without that sysctl has no IPv6 to disable."""
        ipv6 = not self._settings.disable_ipv6
        try:
            return await self._run_with(spec, wiring, plan, name, ipv6=ipv6)
        except errors.Failed as error:
            if ipv6 or "disable_ipv6" not in error.message:
                raise
            log.warning("sandbox %s: IPv6 cannot be switched off here: %s", spec.id, error.message)
        await self._calls.remove_container(name)
        return await self._run_with(spec, wiring, plan, name, ipv6=True)

    async def _run_with(self, spec: SandboxSpec, wiring: Wiring, plan: Plan, name: str, *, ipv6: bool) -> str:
        """The Engine refuses an unknown sysctl at create, the OCI runtime one that the kernel lacks at start."""
        body = sidecar_body(spec, self._profile, self._settings, wiring, plan, ipv6=ipv6)
        try:
            container_id = await self._calls.create_container(name, body)
            await self._calls.start(container_id)
        except (errors.Failed, errors.Invalid, errors.Conflict, errors.NotFound) as error:
            raise sidecar_error(error) from error
        return container_id

    async def _wait_until_ready(self, container_id: str, token: str, sandbox_id: str) -> None:
        limit = self._settings.readiness_timeout_seconds
        try:
            async with asyncio.timeout(limit), aiohttp.ClientSession() as session:
                while not await self._ready(session, container_id, token):  # noqa: ASYNC110 - it sends no event when it is ready
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            message = f"Egress sidecar did not become ready within {limit:g}s for sandbox {sandbox_id}."
            raise errors.Failed(SANDBOX_START_FAILED, message) from None

    async def _ready(self, session: aiohttp.ClientSession, container_id: str, token: str) -> bool:
        details = await self._calls.inspect_container(container_id)
        if details is None or not details["State"].get("Running"):
            code = details["State"].get("ExitCode") if details else None
            raise sidecar_ended(code)
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
