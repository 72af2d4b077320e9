"""The egress policy of a running sandbox: read and changed at its sidecar, with the token the server keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp

from manager.domain.codes import API_NOT_SUPPORTED, INVALID_PARAMETER
from manager.domain.errors import BadBackend, Invalid, TimedOut, Unavailable
from manager.domain.sandbox import EGRESS_PORT, Sandbox
from manager.services.endpoints import EGRESS_HEADER
from manager.services.publish import reach_of
from manager.services.sandboxes import Sandboxes

CONNECTION_FAILED = "BACKEND_CONNECTION_FAILED"
TIMEOUT = "BACKEND_TIMEOUT"

_LIMITS = aiohttp.ClientTimeout(total=30, connect=5)
_MAX_ANSWER = 1024 * 1024
_PATIENCE, _PAUSE = 5.0, 0.1
"""Seconds for which connections are tried, and between two of them."""
_WRONG = (400, 413)
"""Statuses with which a sidecar refuses a malformed policy; its errors are plain text."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The response of a sidecar."""

    status: int
    body: bytes
    content_type: str


class Policies:
    """HTTP client of the sidecars."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, sandbox_id: str, method: str, query: str, body: bytes | None) -> Reply:
        """Sends one request about the policy. Raises NotFound, Invalid, Unavailable, BadBackend, TimedOut."""
        sandbox = await self._sandboxes.get(sandbox_id)
        url, headers = self._address(sandbox, query)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            reply = await self._patiently(method, url, body, headers)
        except TimeoutError as error:
            raise TimedOut(TIMEOUT, f"The egress sidecar of sandbox {sandbox_id} did not answer in time.") from error
        except aiohttp.ClientError as error:
            message = f"The egress sidecar of sandbox {sandbox_id} cannot be reached."
            raise BadBackend(CONNECTION_FAILED, message) from error
        return _granted(reply, sandbox_id)

    async def _patiently(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """Retries while the connection is refused, as it is by execd before it listens, where that is the relay."""
        last = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._once(method, url, body, headers)
            except aiohttp.ClientConnectionError as error:
                if isinstance(error, TimeoutError) or time.monotonic() > last:
                    raise
            await asyncio.sleep(_PAUSE)

    async def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        session = self._open()
        async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            content = await answer.content.read(_MAX_ANSWER)
            return Reply(answer.status, content, answer.content_type)

    async def close(self) -> None:
        """Closes the connections to the sidecars."""
        if self._session is not None:
            await self._session.close()

    def _address(self, sandbox: Sandbox, query: str) -> tuple[str, dict[str, str]]:
        if sandbox.egress_token is None:
            message = f"Sandbox {sandbox.id} was created without a networkPolicy: there is no sidecar to ask."
            raise Invalid(API_NOT_SUPPORTED, message)
        # Not through execd, as the vault has to be: the token that loosens the policy would pass through the sandbox.
        target = replace(reach_of(sandbox), relayed=frozenset()).target(EGRESS_PORT)
        if target is None:
            raise Unavailable(
                CONNECTION_FAILED, f"Sandbox {sandbox.id} is {sandbox.status.state.value}: its sidecar has no address."
            )
        suffix = f"?{query}" if query else ""
        url = f"http://{target.host}:{target.port}{target.prefix.decode()}/policy{suffix}"
        return url, {EGRESS_HEADER: sandbox.egress_token}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # One caller's cookies must never travel with another's request.
            self._session = aiohttp.ClientSession(timeout=_LIMITS, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def _granted(reply: Reply, sandbox_id: str) -> Reply:
    """The reply, if it is a success. Raises Invalid or BadBackend otherwise."""
    if reply.status < 400:
        return reply
    text = reply.body.decode("utf-8", "replace").strip() or "nothing more"
    if reply.status in _WRONG:
        raise Invalid(INVALID_PARAMETER, f"The egress sidecar refuses the policy: {text}")
    message = f"The egress sidecar of sandbox {sandbox_id} cannot be asked: it answers {reply.status}, {text}."
    raise BadBackend(CONNECTION_FAILED, message)
