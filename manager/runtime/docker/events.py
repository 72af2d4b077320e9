"""The Engine's watcher: open the event stream, list, follow; on any error reconnect and list again. Never gives up.

The stream is opened before the list is taken, so no change between them is missed. An event is only a hint: its
container is inspected, and the result is reported. Several events of one sandbox become one inspect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from manager.domain import errors
from manager.domain.sandbox import Sandbox
from manager.runtime.base import Appeared, Departed, Departure, EventSink, OutOfSync, Synced
from manager.runtime.docker.codes import EVENTS_ENDED
from manager.runtime.docker.container_cache import ContainerCache
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.engine.stream import Feed
from manager.runtime.docker.labels import ID, SIDECAR_FOR

log = logging.getLogger(__name__)
Json = dict[str, Any]

KINDS = ("start", "die", "pause", "unpause", "oom", "health_status", "destroy")
OVERLAP = 3.0
"""Seconds of events requested again at each start, to allow for clock skew; a repeated event costs one inspect."""
PING_EVERY = 5.0
"""Seconds between two pings; an Engine that hangs sends no events and closes no stream."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to reach the Engine."""


class Watch:
    """Reports the Engine's sandboxes and every change to a listener."""

    def __init__(
        self, calls: Calls, cache: ContainerCache, tidy: Callable[[], Awaitable[None]], stock: Callable[[], None]
    ) -> None:
        """`tidy` is called before each list, so garbage is never reported; `stock` when a pooled container changes."""
        self._stock = stock
        self._calls = calls
        self._cache = cache
        self._tidy = tidy
        self._sink: EventSink = lambda event: None
        self._task: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._deleting: set[str] = set()
        self._cut: Callable[[], None] = lambda: None
        self.trouble: str | None = "the Docker Engine has not answered yet"
        self.synced_at: float | None = None
        self._has_begun = False

    def start(self, sink: EventSink) -> None:
        """Begins; returns at once."""
        self._sink = sink
        self._task = asyncio.get_running_loop().create_task(self._run(), name="docker-watch")

    async def stop(self) -> None:
        """Stops; nothing is reported any more."""
        tasks = [task for task in (self._task, *self._looks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def deleting(self, sandbox_id: str) -> Iterator[None]:
        """While this server deletes a sandbox, its removal is reported with that reason."""
        self._deleting.add(sandbox_id)
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(OVERLAP, self._deleting.discard, sandbox_id)

    def looked_at(self, sandbox_id: str) -> None:
        """The caller knows a newer state than an inspect in progress may return: that one is repeated."""
        looking = self._looks.get(sandbox_id)
        if looking is not None and not looking.done():
            self._again.add(sandbox_id)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except errors.ManagerError as error:
                reason = error.message
            except Exception:
                log.exception("unexpected error in the Docker event watcher")
                reason = "watching the Docker Engine failed"
            if self.trouble is None or not self._has_begun:
                self._sink(OutOfSync(reason))
            self.trouble, self._has_begun = reason, True
            pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _session(self) -> None:
        """Follows one stream from its opening to its end, which always raises."""
        since = time.time() - OVERLAP
        feed = await self._calls.events(since=since, labels=self._cache.watched_labels, kinds=KINDS)
        self._cut = feed.close
        pulse = asyncio.get_running_loop().create_task(self._pulse(feed))
        try:
            await self._tidy()
            sandboxes = await self._cache.all(fresh=True)
            self.trouble, self.synced_at = None, time.monotonic()
            self._sink(Synced(sandboxes))
            async for event in feed:
                self._hint(event)
        finally:
            feed.close()
            pulse.cancel()
            for task in self._looks.values():
                task.cancel()
            self._looks.clear()
        raise errors.Unavailable(EVENTS_ENDED, "The event stream of the Docker Engine ended.")

    async def _pulse(self, feed: Feed[Json]) -> None:
        """Closes the stream when the Engine does not answer pings."""
        with contextlib.suppress(errors.ManagerError):
            while True:
                await asyncio.sleep(PING_EVERY)
                await self._calls.ping()
        feed.close()

    def _hint(self, event: Json) -> None:
        attributes = event.get("Actor", {}).get("Attributes", {})
        if not self._cache.owns(attributes):
            return
        sandbox_id = attributes.get(ID) or attributes.get(SIDECAR_FOR)
        if self._cache.is_stock(sandbox_id, attributes):
            if event.get("Action") != "start":
                self._stock()
            return
        if attributes.get(ID):
            self._cache.note_event(sandbox_id, str(event.get("Action")))
        self._cache.forget(sandbox_id)
        self._again.add(sandbox_id)
        looking = self._looks.get(sandbox_id)
        if looking is None or looking.done():  # a finished one handles no further event
            task = asyncio.get_running_loop().create_task(self._look(sandbox_id))
            self._looks[sandbox_id] = task
            task.add_done_callback(lambda done: self._looked(sandbox_id, done))

    def _looked(self, sandbox_id: str, task: asyncio.Task[None]) -> None:
        if self._looks.get(sandbox_id) is task:
            del self._looks[sandbox_id]
        if not task.cancelled() and task.exception() is not None:
            log.warning("could not inspect sandbox %s after an event: %s", sandbox_id, task.exception())
            self._cut()  # the change must not be missed: list again

    async def _look(self, sandbox_id: str) -> None:
        while sandbox_id in self._again:
            self._again.discard(sandbox_id)
            sandbox = await self._cache.one(sandbox_id)
            if sandbox_id not in self._again:
                self._tell(sandbox_id, sandbox)

    def _tell(self, sandbox_id: str, sandbox: Sandbox | None) -> None:
        if sandbox is not None:
            self._sink(Appeared(sandbox))
            return
        ours = sandbox_id in self._deleting
        self._sink(Departed(sandbox_id, Departure.DELETED if ours else Departure.VANISHED))
