"""What the tests of services and API stand on: a fake runtime, records in memory and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.table import RouteTable
from manager.domain.request import CreateRequest
from manager.runtime.records import Records
from manager.services.wiring import Services, build_services
from manager.settings.model import Settings
from tests.manager.fake_records import FakeRecords
from tests.manager.fake_runtime import FakeRuntime

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DEADLINE = 5.0

OpenRecords = Callable[[Path], Records]
"""Opens the records that are kept in a directory."""


class MovedClock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        """Sets the clock forward, or back."""
        self.now += timedelta(seconds=seconds)


@dataclass
class House:
    """Running services with everything around them."""

    services: Services
    runtime: FakeRuntime
    table: RouteTable
    clock: MovedClock


def settings_of(**tables: Any) -> Settings:
    """Settings with the few keys that must be there."""
    runtime = {"type": "docker", "execd_image": "execd:1", **tables.pop("runtime", {})}
    storage = {"allowed_host_paths": ["/srv"], **tables.pop("storage", {})}
    return Settings.model_validate({"runtime": runtime, "storage": storage, **tables})


@asynccontextmanager
async def open_house(
    directory: Path,
    runtime: FakeRuntime | None = None,
    clock: MovedClock | None = None,
    open_records: OpenRecords = FakeRecords,
    **tables: Any,
) -> AsyncIterator[House]:
    """Starts services on a fake runtime and stops them; the same directory again is a restart."""
    runtime, clock, table = runtime or FakeRuntime(), clock or MovedClock(), RouteTable()
    settings = settings_of(**tables)
    runtime.pools = frozenset(settings.docker.pools)
    services = build_services(settings, runtime, open_records(directory), table, clock)
    await services.start()
    try:
        yield House(services, runtime, table, clock)
    finally:
        for gate in runtime.gates.values():
            gate.set()
        await services.stop()


def wish(**changes: Any) -> CreateRequest:
    """A plain create."""
    return CreateRequest(**{"image": "image:1", "entrypoint": ("sleep", "9"), "timeout": 600, **changes})


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds, failing when it does not within the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - conditions are about many things, none of which has an event
            await asyncio.sleep(0.001)
