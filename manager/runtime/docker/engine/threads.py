"""A named pool of daemon threads for blocking calls, awaited from the loop.

Unlike the standard executor its threads are never joined: a call that hangs on a dead Engine must not hold up the
exit of the process. Threads start on demand and end with the process or with `close`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Workers:
    """Runs blocking calls on at most `size` threads; further calls are queued in order."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._pending = 0
        self._closed = False

    @property
    def busy(self) -> int:
        """Calls running or waiting."""
        return self._pending

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, made on a thread of this pool. A cancelled wait leaves the call running to its end."""
        return await self.begin(call)

    def begin(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Hands `call` to a thread of this pool; the future has its result."""
        if self._closed:
            raise RuntimeError(f"the {self.name} threads are closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._pending += 1
            self._jobs.put((loop, future, call))
            if self._pending > self._threads and self._threads < self.size:
                self._threads += 1
                threading.Thread(target=self._work, name=f"docker-{self.name}-{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Ends idle threads and accepts no more calls; stuck threads are left behind, they are daemons."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            try:
                result, error = call(), None
            except BaseException as raised:  # whatever it is belongs to the caller, not to this thread
                result, error = None, raised
            with self._lock:
                self._pending -= 1
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                continue  # the loop was closed meanwhile: the future has no waiter
            del job, call, future, result, error  # an idle thread keeps nothing alive


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
