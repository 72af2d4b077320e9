"""Token buckets: bursts up to a size, and an average rate per second.

A bucket is refilled when it is looked at, so there is no timer. Times are any one clock's seconds; a clock that goes
back refills nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class TokenBucket:
    """Full at first; `burst` is what it holds, `rate` how much comes in a second."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self.burst = burst
        self.rate = rate
        self._tokens = burst
        self._at = now

    def left(self, now: float) -> float:
        """How much there is; less than nothing while a debt is being paid."""
        passed = now - self._at
        if passed > 0.0:
            self._tokens = min(self.burst, self._tokens + passed * self.rate)
            self._at = now
        return self._tokens

    def wait(self, now: float) -> float:
        """Seconds until there is a whole token; 0.0 when there is one."""
        left = self.left(now)
        return 0.0 if left >= 1.0 else (1.0 - left) / self.rate

    def take(self, now: float) -> float:
        """Takes one token and returns 0.0, or takes none and returns the seconds until there is one."""
        left = self.left(now)
        if left < 1.0:
            return (1.0 - left) / self.rate
        self._tokens = left - 1.0
        return 0.0

    def spend(self, count: float, now: float) -> float:
        """Takes tokens for what has happened already, even those that are not there; seconds until they are paid."""
        left = self._tokens = self.left(now) - count
        return 0.0 if left >= 0.0 else -left / self.rate


class TokenBuckets(Generic[_K]):
    """A bucket for each key, of the last so many keys; the one used least recently is forgotten first."""

    __slots__ = ("_buckets", "_burst", "_rate", "_remembered")

    def __init__(self, burst: float, rate: float, remembered: int) -> None:
        self._burst = burst
        self._rate = rate
        self._remembered = remembered
        self._buckets: OrderedDict[_K, TokenBucket] = OrderedDict()

    def find(self, key: _K, now: float) -> TokenBucket | None:
        """The bucket of a key that has used some of it; None is a full one."""
        bucket = self._buckets.get(key)
        if bucket is not None and bucket.left(now) >= self._burst:
            del self._buckets[key]
            return None
        return bucket

    def get(self, key: _K, now: float) -> TokenBucket:
        """The bucket of a key that is about to use some of it."""
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            if len(buckets) >= self._remembered:
                buckets.popitem(last=False)
            bucket = buckets[key] = TokenBucket(self._burst, self._rate, now)
        else:
            buckets.move_to_end(key)
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)
