"""Errors for a sandbox that cannot respond: by its state, or by why it was removed from the route table."""

from __future__ import annotations

from gateway.errors import (
    GatewayError,
    SandboxDeleted,
    SandboxExpired,
    SandboxPaused,
    SandboxStarting,
    SandboxStopped,
    SandboxUnavailable,
)
from gateway.table import Removal, RouteState

_STATES: dict[RouteState, type[GatewayError]] = {
    RouteState.STARTING: SandboxStarting,
    RouteState.PAUSED: SandboxPaused,
    RouteState.STOPPED: SandboxStopped,
}
_REMOVALS: dict[Removal, type[GatewayError]] = {
    Removal.DELETED: SandboxDeleted,
    Removal.EXPIRED: SandboxExpired,
    Removal.PAUSED: SandboxPaused,
    Removal.STOPPED: SandboxStopped,
    Removal.REPLACED: SandboxUnavailable,
    Removal.REVOKED: SandboxUnavailable,
}


def for_state(state: RouteState) -> GatewayError | None:
    """Why a sandbox in this state cannot answer, or None when it can."""
    kind = _STATES.get(state)
    return None if kind is None else kind()


def for_removal(reason: Removal) -> GatewayError:
    """The error for a sandbox that was removed from the table."""
    return _REMOVALS[reason]()
