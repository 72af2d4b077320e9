"""Logs each sandbox that exits or is removed without a request to this server, with the cause."""

from __future__ import annotations

import logging

from manager.domain.sandbox import SandboxState
from manager.services.inventory import Change, Ending

_logger = logging.getLogger(__name__)
_OVER = frozenset({SandboxState.FAILED, SandboxState.TERMINATED})


def on_change(change: Change) -> None:
    """Logs a sandbox that has exited, with the runtime's cause, or was removed outside of this server."""
    before, after = change.before, change.after
    if before is None:
        return  # dead when it was found, as it may have been for long, or the record of a failed create
    if after is None:
        if change.ending is Ending.VANISHED:
            _logger.info("sandbox %s is gone: its container was removed outside of this server", change.sandbox_id)
    elif after.uid and after.status.state in _OVER and before.status.state not in _OVER:
        _logger.info(
            "sandbox %s has ended without a request to this server: %s",
            change.sandbox_id,
            after.status.message or after.status.reason,
        )
