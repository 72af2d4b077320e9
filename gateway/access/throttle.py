"""Rate limit of failed signatures per sandbox.

A short signature has 32 bits, so somebody who may guess without end gets in. Each sandbox has a bucket of failures
that fills again slowly: at one failure in `refill` seconds a guesser needs more than a thousand years. While it is
empty short signatures are refused unchecked. Tokens and long signatures cannot be guessed and are never refused, so
guessing does not lock out their holders.
"""

from __future__ import annotations

import math
from typing import Final

from gateway.access.token_bucket import TokenBuckets

BURST: Final = 20
"""Failures in a row before the first refusal."""
REFILL: Final = 10.0
"""Seconds until one more failure is allowed."""
REMEMBERED: Final = 4096
"""Sandboxes whose failures are remembered; the one that has failed least recently is forgotten first."""


class FailureThrottle:
    """Counts failed signatures by sandbox; times are any clock's seconds, as long as it is one clock."""

    __slots__ = ("_failures",)

    def __init__(self, burst: int = BURST, refill: float = REFILL, remembered: int = REMEMBERED) -> None:
        self._failures: TokenBuckets[bytes] = TokenBuckets(burst, 1.0 / refill, remembered)

    def wait(self, id: bytes, now: float) -> int:
        """Whole seconds until a signature of this sandbox is looked at again; 0 when it is now."""
        bucket = self._failures.find(id, now)
        return 0 if bucket is None else math.ceil(bucket.wait(now))

    def failed(self, id: bytes, now: float) -> None:
        """Notes one failed signature."""
        self._failures.get(id, now).spend(1, now)
