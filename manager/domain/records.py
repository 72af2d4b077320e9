"""What the server keeps across restarts beside the sandboxes themselves: the value types. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from manager.domain.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed creation as it is shown, until `until`."""

    sandbox: Sandbox
    until: datetime


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One used idempotency key: `request` is the digest of its body, `made` whether its sandbox came to exist."""

    owner: str
    key: str
    request: str
    sandbox_id: str
    until: datetime
    made: bool = False
