"""How often a signature of one sandbox may be guessed.

A short signature has 32 bits, so somebody who may guess without end gets in. Each sandbox has a bucket of failures
that fills again slowly: at one failure in `refill` seconds a guesser needs more than a thousand years. While it is
empty short signatures are refused unchecked. Tokens and long signatures cannot be guessed and are never refused, so
guessing does not lock out their holders.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

BURST: Final = 20
"""Failures in a row before the first refusal."""
REFILL: Final = 10.0
"""Seconds until one more failure is allowed."""
REMEMBERED: Final = 4096
"""Sandboxes whose failures are remembered; the one that has failed least recently is forgotten first."""


class FailureThrottle:
    """Counts failed signatures by sandbox; times are any clock's seconds, as long as it is one clock."""

    __slots__ = ("_burst", "_failures", "_refill", "_remembered")

    def __init__(self, burst: int = BURST, refill: float = REFILL, remembered: int = REMEMBERED) -> None:
        self._burst = burst
        self._refill = refill
        self._remembered = remembered
        # By sandbox: how many failures are outstanding, and since when that number holds.
        self._failures: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def wait(self, id: bytes, now: float) -> int:
        """Whole seconds until a signature of this sandbox is looked at again; 0 when it is now."""
        held = self._failures.get(id)
        if held is None:
            return 0
        outstanding = self._outstanding(held, now)
        if outstanding <= 0:
            del self._failures[id]
            return 0
        surplus = outstanding - (self._burst - 1)
        return max(0, math.ceil(surplus * self._refill))

    def failed(self, id: bytes, now: float) -> None:
        """Notes one failed signature."""
        held = self._failures.get(id)
        outstanding = 0.0 if held is None else self._outstanding(held, now)
        self._failures[id] = (max(0.0, outstanding) + 1, now)
        self._failures.move_to_end(id)
        if len(self._failures) > self._remembered:
            self._failures.popitem(last=False)

    def _outstanding(self, held: tuple[float, float], now: float) -> float:
        count, since = held
        return count - max(0.0, now - since) / self._refill
