"""The two flavours of the SDK behind one face, so that each test is written once and holds for both.

The synchronous SDK mirrors the asynchronous one name by name. Here its calls run in threads and are awaited; what they
return is a plain value, one more object of the SDK, or an iterator that is followed step by step.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, cast

from opensandbox import (
    InMemoryAsyncPoolStateStore,
    InMemoryPoolStateStore,
    Sandbox,
    SandboxManager,
    SandboxManagerSync,
    SandboxPoolAsync,
    SandboxPoolSync,
    SandboxSync,
)
from opensandbox.models.execd import ExecutionHandlers, OutputMessage
from opensandbox.models.execd_sync import ExecutionHandlersSync

from tests.clients.modes import connection, connection_sync

SYNC_PACKAGE = "opensandbox.sync."
OnOutput = Callable[[OutputMessage], Awaitable[None]]


class Awaited:
    """An object of the synchronous SDK, or a class of it, whose methods are awaited."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return functools.partial(self._call, value) if callable(value) else awaited(value)

    async def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return awaited(await asyncio.to_thread(function, *arguments, **named))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._call(self._inner.close)


def awaited(value: Any) -> Any:
    """What a test gets to see of something that the synchronous SDK returned."""
    if type(value).__module__.startswith(SYNC_PACKAGE):
        return Awaited(value)
    return stepped(value) if isinstance(value, Iterator) else value


async def stepped(values: Iterator[Any]) -> AsyncIterator[Any]:
    """The same values, each fetched in a thread."""
    end = object()
    while (value := await asyncio.to_thread(next, values, end)) is not end:
        yield value


def handlers(*, on_stdout: OnOutput) -> ExecutionHandlers:
    """Handlers of the asynchronous SDK."""
    return ExecutionHandlers(on_stdout=on_stdout)


def handlers_sync(*, on_stdout: OnOutput) -> ExecutionHandlers:
    """Handlers of the synchronous SDK: called in its thread, they wait for what runs on the test's loop."""
    loop = asyncio.get_running_loop()

    def call(message: OutputMessage) -> None:
        asyncio.run_coroutine_threadsafe(cast(Any, on_stdout(message)), loop).result()

    return cast(ExecutionHandlers, ExecutionHandlersSync(on_stdout=call))


def pool(**options: Any) -> SandboxPoolAsync:
    """A pool on the client's side."""
    return SandboxPoolAsync(state_store=InMemoryAsyncPoolStateStore(), **options)


def pool_sync(**options: Any) -> SandboxPoolAsync:
    """The same of the synchronous SDK."""
    return cast(SandboxPoolAsync, Awaited(SandboxPoolSync(state_store=InMemoryPoolStateStore(), **options)))


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the two, with the names that the tests use."""

    name: str
    sandbox: type[Sandbox]
    manager: type[SandboxManager]
    connection: Callable[..., Any]
    handlers: Callable[..., ExecutionHandlers]
    pool: Callable[..., SandboxPoolAsync]

    def __str__(self) -> str:
        return self.name


ASYNC = Flavour("async", Sandbox, SandboxManager, connection, handlers, pool)
SYNC = Flavour(
    "sync",
    cast(type[Sandbox], Awaited(SandboxSync)),
    cast(type[SandboxManager], Awaited(SandboxManagerSync)),
    connection_sync,
    handlers_sync,
    pool_sync,
)
