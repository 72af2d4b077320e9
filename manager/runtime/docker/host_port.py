"""execd's port of the Engine's host, which sandboxes in host mode compete for.

The second execd would not start, and whoever called it would reach the first sandbox's. So the port is somebody's from
the moment a create begins, before anything listens there, until that sandbox's container has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT
from manager.runtime.docker.codes import HOST_PORT_IN_USE
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.readiness import probe_tcp
from manager.runtime.docker.spec import container_name


class HostPort:
    """Reserves the port in this process; for other processes it is dialled to see whether something listens."""

    def __init__(self, calls: Calls, engine_host: str) -> None:
        self._calls = calls
        self._engine_host = engine_host
        self._turn = asyncio.Lock()
        self._holder: str | None = None
        self._starting = False

    @contextlib.asynccontextmanager
    async def held(self, sandbox_id: str) -> AsyncIterator[None]:
        """Gives the port to a sandbox that is started meanwhile. Raises Conflict when it is taken."""
        async with self._turn:
            await self._check()
            self._holder, self._starting = sandbox_id, True
        try:
            yield
        except BaseException:
            self._holder = None
            raise
        finally:
            self._starting = False

    async def _check(self) -> None:
        if self._holder is not None and (self._starting or await self._runs(self._holder)):
            raise _taken("by another sandbox")
        if await probe_tcp(self._engine_host, EXECD_PORT) is None:
            raise _taken("as by another sandbox")

    async def _runs(self, sandbox_id: str) -> bool:
        details = await self._calls.inspect_container(container_name(sandbox_id))
        return details is not None and bool(details["State"].get("Running"))


def _taken(by: str) -> errors.Conflict:
    message = f"docker.network_mode = 'host': port {EXECD_PORT} of the Engine's host is taken, {by}"
    return errors.Conflict(HOST_PORT_IN_USE, f"{message}. Delete that first, or use network_mode = 'bridge'.")
