"""A numbered sequence that followers read at their own pace: they wait here for what comes after the last they know."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Followed(ABC):
    """What the journal and the lasting events have in common. Whoever appends something calls `_wake`."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.closed = False
        """Set at shutdown: followers end."""

    @abstractmethod
    def count(self, viewer: str | None) -> int:
        """The number of the latest as this viewer is told it: of its own only, or None for all."""

    async def wait(self, number: int, seconds: float) -> bool:
        """Waits for what comes after `number`, at most so long; False when there was nothing."""
        news = self._news
        if self.count(None) > number or self.closed:
            return True
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Ends every follower."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
