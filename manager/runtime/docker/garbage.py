"""Garbage collection: what an earlier process of this server left half-made is found by labels alone and removed.

A sandbox that runs is adopted simply by being listed. Containers that never started, a sidecar without its sandbox, a
volume of a removed sandbox, and helper containers are garbage once they are older than any create takes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from manager.domain import errors
from manager.runtime.docker.container_cache import ContainerCache
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.labels import HELPS_EXECD, INSTANCE, VOLUME_FOR, read_time
from manager.runtime.docker.volumes import Volumes

log = logging.getLogger(__name__)
Json = dict[str, Any]

GRACE = 60.0
"""Seconds for which a previous process that is shutting down may still be creating something."""


class GarbageCollector:
    """Removes what no create will finish."""

    def __init__(
        self, calls: Calls, cache: ContainerCache, volumes: Volumes, making: Callable[[], set[str]], grace: float
    ) -> None:
        """`making` gives ids and helpers that this process is creating at the moment; `grace` is in seconds."""
        self._calls = calls
        self._cache = cache
        self._volumes = volumes
        self._instance = cache.instance
        self._making = making
        self._grace = grace
        self._first_seen: dict[str, float] = {}
        self.doomed: set[str] = set()
        """Sandboxes whose removal failed because the Engine was unreachable; the next pass removes them."""

    async def remove(self) -> bool:
        """One pass. True when something was too young and another pass is wanted after the grace."""
        listed = await self._cache.entries()
        making = self._making()
        young = False
        alive = listed.sandboxes.keys() | making
        for sandbox_id, entry in listed.sandboxes.items():
            if sandbox_id in self.doomed or (entry["State"] == "created" and sandbox_id not in making):
                if await self._remove(entry, "never started", forced=sandbox_id in self.doomed):
                    alive.discard(sandbox_id)
                else:
                    young = True
        for sandbox_id, entry in listed.sidecars.items():
            if sandbox_id not in alive:
                young |= not await self._remove(entry, "sidecar without a sandbox")
        for entry in await self._calls.list_containers([HELPS_EXECD, f"{INSTANCE}={self._instance}"]):
            if entry["Names"][0].lstrip("/") in making:
                continue
            young |= not await self._remove(entry, "helper")
        young |= not await self._remove_volumes(alive)
        young |= not await self._release_buckets(alive)
        self.doomed.clear()
        if not young:
            self._first_seen.clear()
        return young

    def _is_young(self, name: str, created: float) -> bool:
        """Whether it may still be in creation: by its age and, since clocks are set back, by when it was first seen."""
        known_for = time.monotonic() - self._first_seen.setdefault(name, time.monotonic())
        return time.time() - created < self._grace and known_for < self._grace

    async def _remove(self, entry: Json, why: str, *, forced: bool = False) -> bool:
        """False when it is too young to be judged."""
        if not forced and self._is_young(entry["Id"], float(entry["Created"])):
            return False
        log.info("removing leftover container %s: %s", entry["Names"][0].lstrip("/"), why)
        await self._calls.remove_container(entry["Id"])
        return True

    async def _remove_volumes(self, alive: set[str]) -> bool:
        old = True
        for volume in await self._calls.list_volumes([VOLUME_FOR, f"{INSTANCE}={self._instance}"]):
            owner = volume["Labels"][VOLUME_FOR]
            if owner in alive:
                continue
            created = read_time(volume.get("CreatedAt"))
            if created is not None and self._is_young(volume["Name"], created.timestamp()):
                old = False
                continue
            log.info("removing leftover volume %s of sandbox %s", volume["Name"], owner)
            await self._volumes.release([volume["Name"]])
        return old

    async def _release_buckets(self, alive: set[str]) -> bool:
        old = True
        for owner, created in self._volumes.buckets.owners().items():
            if owner in alive:
                continue
            if self._is_young(f"buckets of {owner}", created):
                old = False
                continue
            log.info("unmounting the buckets of removed sandbox %s", owner)
            await self._volumes.buckets.release(owner)
        return old


async def repeat_until_settled(leftovers: GarbageCollector, grace: float) -> None:
    """Later passes, until nothing is too young any more; an unreachable Engine only postpones them."""
    while True:
        await asyncio.sleep(grace + 1)
        try:
            if not await leftovers.remove():
                return
        except errors.ManagerError as error:
            log.info("garbage collection is postponed: %s", error.message)
