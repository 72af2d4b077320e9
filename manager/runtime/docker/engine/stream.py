"""A blocking stream as an asynchronous iterator: a thread reads, the loop consumes, a full buffer blocks the thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from manager.runtime.docker.engine.threads import Workers

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """The source that the thread reads: an iterator that another thread can close."""

    def __iter__(self) -> Iterator[T_co]: ...

    def close(self) -> None: ...


class _End:
    """The last thing in the buffer: why there is nothing more."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


class Feed(Generic[T]):
    """Items of a stream in order; ends when the stream does, raises what broke it. Close it when done."""

    def __init__(
        self, opener: Callable[[], Source[T]], translate: Callable[[Exception], Exception], buffer: int
    ) -> None:
        self._opener = opener
        self._translate = translate
        self._credits = threading.Semaphore(buffer)
        self._buffer: asyncio.Queue[Any] = asyncio.Queue()
        self._source: Source[T] | None = None
        self._closed = False
        self._opened: asyncio.Future[None] | None = None

    async def open(self, workers: Workers) -> None:
        """Starts the thread and returns once the stream is open. Raises what opening raised."""
        loop = asyncio.get_running_loop()
        self._opened = loop.create_future()
        workers.begin(lambda: self._read(loop))
        try:
            await self._opened
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the stream; may be called twice, and while another task waits for an item."""
        if self._closed:
            return
        self._closed = True
        self._credits.release()
        self._buffer.put_nowait(_End(None))
        if self._source is not None:
            # Shuts the socket down, which is what wakes the reading thread; over ssh the SDK cannot do that.
            with contextlib.suppress(Exception):
                self._source.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._buffer.get()
        if isinstance(item, _End):
            self._buffer.put_nowait(item)
            if item.error is not None:
                raise item.error
            raise StopAsyncIteration
        self._credits.release()
        return item  # type: ignore[no-any-return]

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs on the thread. Raises nothing: the last item of the buffer carries the outcome."""
        error: Exception | None = None
        try:
            self._source = self._opener()
        except Exception as failure:
            self._tell(loop, self._settle, failure)
            return
        self._tell(loop, self._settle, None)
        try:
            for item in self._source:
                self._credits.acquire()
                if self._closed or not self._tell(loop, self._buffer.put_nowait, item):
                    break
        except Exception as failure:
            error = None if self._closed else self._translate(failure)
        finally:
            with contextlib.suppress(Exception):
                self._source.close()
        self._tell(loop, self._buffer.put_nowait, _End(error))

    def _settle(self, failure: Exception | None) -> None:
        if self._opened is None or self._opened.done():
            return
        if failure is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(failure)

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> bool:
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False  # the loop is closed
        return True
