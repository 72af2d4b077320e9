"""The whole server on a fake runtime, in a thread: for tests that speak HTTP from outside and block while they do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manager.api.app import build_app, runner_of
from manager.gateway_options import build_gateway
from tests.manager.harness import House, MovedClock, open_house


@dataclass
class Served:
    """A running server."""

    url: str
    house: House
    loop: asyncio.AbstractEventLoop


@contextmanager
def serve(directory: Path, **tables: Any) -> Iterator[Served]:
    """Gateway, API and services on 127.0.0.1, on a port of the kernel's choice."""
    started: list[Served] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        clock = MovedClock()
        async with open_house(directory, clock=clock, **tables) as house:
            settings = house.services.settings
            runner = runner_of(build_app(house.services, settings), settings.gateway.limits)
            await runner.setup()
            assert runner.server is not None
            gateway = build_gateway(settings, house.table, house.services)
            gateway.mount(runner.server)
            await gateway.listen("127.0.0.1", 0)
            host, port = gateway.addresses[0]
            started.append(Served(f"http://{host}:{port}", house, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()
            house.services.drain()
            await gateway.drain(1)
            await gateway.stop()
            await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="served")
    thread.start()
    assert ready.wait(10), "the server did not start"
    try:
        yield started[0]
    finally:
        started[0].loop.call_soon_threadsafe(stop.set)
        thread.join(10)
