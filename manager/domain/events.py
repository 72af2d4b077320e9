"""A change of a sandbox's state: what it was, what caused it and who asked for it. Values and decisions, no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from manager.domain.sandbox import Sandbox, SandboxState


class Cause(enum.StrEnum):
    """Why a state changed, as the wire spells it."""

    API = "api"
    EXPIRY = "expiry"
    RENEWED = "renewed"
    IDLE = "idle"
    WOKEN = "woken"
    EXITED = "exited"
    OUT_OF_MEMORY = "out-of-memory"
    REMOVED_OUTSIDE = "removed-outside"
    FAILED_CREATE = "failed-create"
    RUNTIME = "runtime"
    """The runtime reports it and nobody asked this server, such as a `docker pause`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """On whose behalf work is done: the cause, the name of the API key and the id of the request, if there is one."""

    cause: Cause
    actor: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """One change. `before` is None for a sandbox that is new, `after` for one that is gone."""

    id: int
    own: int
    """Its number among the events of this owner, which tells nothing of others."""
    at: datetime
    sandbox_id: str
    before: SandboxState | None
    after: SandboxState | None
    cause: Cause
    message: str | None = None
    actor: str = ""
    request_id: str = ""
    owner: str = ""

    def number(self, viewer: str | None) -> int:
        """Its id as this viewer, the name of a key of scope "own" or None, is told it."""
        return self.id if viewer is None else self.own


_OVER = frozenset({SandboxState.FAILED, SandboxState.TERMINATED})


def cause_of(before: Sandbox | None, after: Sandbox | None, gone: Cause | None, origin: Origin | None) -> Cause | None:
    """The cause of a change; None where none has happened: the sandbox was only found, or another field changed.

    `gone` is the reason that the runtime or the server gives for a sandbox that is no longer there.
    """
    asked = Cause.RUNTIME if origin is None else origin.cause
    if before is None and (after is None or after.uid or after.status.state is not SandboxState.PENDING):
        return None
    if after is None:
        return gone or asked
    state = after.status.state
    if before is not None and before.status.state is state:
        return Cause.RENEWED if after.expires_at != before.expires_at else None
    if state not in _OVER:
        return asked
    if not after.uid:
        return Cause.FAILED_CREATE
    return Cause.OUT_OF_MEMORY if "OOM" in (after.status.reason or "") else Cause.EXITED


def document(event: LifecycleEvent, viewer: str | None = None) -> dict[str, Any]:
    """The event as JSON has it everywhere: in lists, in the stream and in a webhook's body."""
    told = {
        "id": event.number(viewer),
        "time": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "sandboxId": event.sandbox_id,
        "from": None if event.before is None else event.before.value,
        "to": None if event.after is None else event.after.value,
        "cause": event.cause.value,
        "message": event.message,
        "actor": event.actor or None,
        "requestId": event.request_id or None,
    }
    return {key: value for key, value in told.items() if value is not None}
