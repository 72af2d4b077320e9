"""Idempotent creates: a key maps to the sandbox it created, also after a restart.

The key is on the disk before the creation starts, so no crash can create two. A key whose create failed, or was lost
because the server died, is free again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from manager.domain.codes import IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_SPENT
from manager.domain.errors import Conflict, NotFound, Unavailable
from manager.domain.records import KeyRecord
from manager.domain.sandbox import Sandbox, SandboxState
from manager.runtime.records import Records
from manager.services.clock import Clock
from manager.services.sandboxes import Sandboxes

KEPT = timedelta(hours=24)
"""How long a key is remembered."""


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """An idempotency key of a request: its owner, and the digest of the request body."""

    owner: str
    key: str
    request: str


class IdempotentCreates:
    """The keys in use."""

    def __init__(self, records: Records, sandboxes: Sandboxes, clock: Clock) -> None:
        self._records = records
        self._sandboxes = sandboxes
        self._clock = clock

    async def claim(self, use: KeyUse, sandbox_id: str) -> Sandbox | None:
        """Claims the key for this sandbox, or returns the one created with it before. Raises Conflict, Unavailable."""
        now = self._clock()
        record = KeyRecord(use.owner, use.key, use.request, sandbox_id, now + KEPT)
        held = await self._records.idempotency.claim(record, now)
        if held is None:
            return None
        if held.request != use.request:
            raise Conflict(
                IDEMPOTENCY_KEY_REUSED, "Idempotency-Key: was used with another request; a new request needs a new key"
            )
        sandbox = await self._find(held.sandbox_id)
        if sandbox is not None and not _has_failed(sandbox):
            return sandbox
        if held.made:
            message = f"Idempotency-Key: sandbox {held.sandbox_id}, made with it, is gone; use a new key"
            raise Conflict(IDEMPOTENCY_KEY_SPENT, message)
        # Its create failed, or an earlier process died before the sandbox was there.
        await self._records.idempotency.release(use.owner, use.key, held.sandbox_id)
        return await self.claim(use, sandbox_id)

    async def made(self, use: KeyUse, sandbox_id: str) -> None:
        """The sandbox of this key has come to exist."""
        try:
            await self._records.idempotency.made(use.owner, use.key, sandbox_id)
        except Unavailable as error:
            _logger.warning("an idempotency key may make another sandbox when this one is gone: %s", error.message)

    async def release(self, use: KeyUse, sandbox_id: str) -> None:
        """Frees the key of a create that failed."""
        try:
            await self._records.idempotency.release(use.owner, use.key, sandbox_id)
        except Unavailable as error:
            _logger.warning("an idempotency key stays taken: %s", error.message)

    async def _find(self, sandbox_id: str) -> Sandbox | None:
        try:
            return await self._sandboxes.get(sandbox_id)
        except NotFound:
            return None


def _has_failed(sandbox: Sandbox) -> bool:
    """Whether this is only the record of a failed create."""
    return sandbox.status.state is SandboxState.FAILED and not sandbox.uid
