"""What the tests of the Docker runtime share: settings, a listener that can be waited on, and HTTP into a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from manager.domain.sandbox import Sandbox
from manager.runtime.base import Appeared, Departed, OutOfSync, RuntimeEvent, Synced
from manager.settings.model import Settings
from tests.engine import engine_socket
from tests.server_process import free_port as free_port

T = TypeVar("T")
DEADLINE = 40.0


def make_settings(execd: str, instance: str, home: Path, **tables: dict[str, Any]) -> Settings:
    """Settings in gateway mode; `tables` are laid over, table by table."""
    document: dict[str, dict[str, Any]] = {
        "runtime": {"type": "docker", "execd_image": execd},
        "docker": {"network_mode": "bridge", "instance": instance},
        "ingress": {"mode": "gateway", "gateway": {"address": "127.0.0.1:8080", "route": {"mode": "header"}}},
        "store": {"path": str(home / "state" / "gateway.db")},
    }
    for table, keys in tables.items():
        document[table] = {**document.get(table, {}), **keys}
    return Settings.model_validate(document)


class Events:
    """Everything a runtime told, in order."""

    def __init__(self) -> None:
        self.all: list[RuntimeEvent] = []
        self._changed = asyncio.Event()

    def take(self, event: RuntimeEvent) -> None:
        """The sink."""
        self.all.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[RuntimeEvent], T | None]) -> T:
        """The first truthy answer of `condition` to an event, past or future."""
        seen = 0
        async with asyncio.timeout(DEADLINE):
            while True:
                for event in self.all[seen:]:
                    if found := condition(event):
                        return found
                seen = len(self.all)
                self._changed.clear()
                await self._changed.wait()

    async def synced(self) -> Synced:
        """The first complete picture."""
        return await self.until(lambda event: event if isinstance(event, Synced) else None)

    async def lost(self) -> OutOfSync:
        """The first break."""
        return await self.until(lambda event: event if isinstance(event, OutOfSync) else None)

    async def state(self, sandbox_id: str, state: str) -> Sandbox:
        """The sandbox as told when it reached this state."""

        def reached(event: RuntimeEvent) -> Sandbox | None:
            same = isinstance(event, Appeared) and event.sandbox.id == sandbox_id
            return event.sandbox if same and event.sandbox.status.state == state else None  # type: ignore[union-attr]

        return await self.until(reached)

    async def gone(self, sandbox_id: str) -> Departed:
        """The departure of a sandbox."""
        return await self.until(lambda e: e if isinstance(e, Departed) and e.sandbox_id == sandbox_id else None)


async def http_get(address: tuple[str, int], target: str) -> tuple[int, bytes]:
    """Status and body of a GET, tried again until something listens."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await _get(address, target)
            except (ConnectionError, IndexError):
                await asyncio.sleep(0.02)


async def _get(address: tuple[str, int], target: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


async def eventually(condition: Callable[[], T]) -> T:
    """The first truthy answer of a condition that nothing announces."""
    async with asyncio.timeout(DEADLINE):
        while not (found := condition()):  # noqa: ASYNC110 - nothing could set an event
            await asyncio.sleep(0.02)
        return found


class EngineProxy:
    """A socket in front of the Engine's that can be cut, stopped and made to hang, which the Engine itself cannot."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine.sock"
        self.hanging = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.Task[None] | None] = set()

    @property
    def url(self) -> str:
        """What DOCKER_HOST would say."""
        return f"unix://{self.path}"

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """Stops listening and cuts every connection."""
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)
            self._server = None
        self.cut()
        await asyncio.gather(*(task for task in self._open if task), return_exceptions=True)

    def cut(self) -> None:
        """Cuts every connection."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(asyncio.current_task())
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(engine_socket())
        pair = {writer, upstream_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
        finally:
            for end in pair:
                end.close()
            self._writers -= pair
            self._open.discard(asyncio.current_task())

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                while self.hanging:  # noqa: ASYNC110 - a hung Engine announces nothing
                    await asyncio.sleep(0.02)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def wait_for_port(port: int, host: str = "127.0.0.1") -> None:
    """Returns once something listens; for fixtures, outside any loop."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {host}:{port}")
