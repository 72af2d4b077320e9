"""Whole servers on the real Engine, in this process: made when a case asks for one, each with the settings of its name.

They share one loop in a thread of its own, so cases are plain functions that speak HTTP and block while they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from gateway.gateway import Gateway
from gateway.table import RouteTable
from manager.api.app import build_app, runner_of
from manager.gateway_options import build_gateway
from manager.runtime.docker.execd import Kit
from manager.runtime.docker.runtime import DockerRuntime
from manager.services.wiring import Services, build_services
from manager.settings.model import Settings
from manager.store.store import Store
from tests.docker import registries
from tests.engine import api_client
from tests.refusals.faulty import Fault, FaultyEngine
from tests.refusals.variants import NEVER_READY, SILENT, variants
from tests.server_process import EXECD_IMAGE, SANDBOX_IMAGE

T = TypeVar("T")
PATIENCE = 60.0
READY = 30.0


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class House:
    """One running server."""

    def __init__(self, stage: Stage, name: str, tables: dict[str, dict[str, Any]]) -> None:
        self.stage = stage
        self.name = name
        self.store_path = stage.folder / name / "gateway.db"
        self.settings = stage.settings(name, tables, self.store_path)
        self.services: Services
        self.runtime: DockerRuntime
        self.gateway: Gateway
        self._undo = contextlib.AsyncExitStack()
        self._shared = contextlib.ExitStack()
        self._boxes: dict[str, str] = {}

    async def start(self) -> None:
        """Listens on a port of the kernel's choice."""
        table = RouteTable()
        self.runtime = DockerRuntime(self.settings)
        if self.name not in NEVER_READY:
            self.runtime._execd._kits = self.stage.kits
        self.services = build_services(self.settings, self.runtime, Store(self.store_path), table)
        await self.services.start()
        self._undo.push_async_callback(self.services.stop)
        runner = runner_of(build_app(self.services, self.settings), self.settings.gateway.limits)
        await runner.setup()
        self._undo.push_async_callback(runner.cleanup)
        self.gateway = build_gateway(self.settings, table, self.services)
        assert runner.server is not None
        self.gateway.mount(runner.server)
        await self.gateway.listen("127.0.0.1", 0)
        self._undo.push_async_callback(self.gateway.stop)

    async def stop(self) -> None:
        """Lets nothing wait, and ends."""
        self.services.drain()
        await self.gateway.drain(0.1)
        await self._undo.aclose()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; a body of bytes is sent as it is."""
        host, port = self.gateway.addresses[0]
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        with contextlib.closing(connection):
            connection.request(method, path, data, {**sent, **{k.replace("_", "-"): v for k, v in headers.items()}})
            told = connection.getresponse()
            raw = told.read()
            kind = told.headers.get_content_type()
            parsed = json.loads(raw) if raw and kind == "application/json" else raw.decode("utf-8", "replace")
            return Answer(told.status, parsed, {key.lower(): value for key, value in told.headers.items()})

    def create(self, **changes: Any) -> Answer:
        """A create of the test image; a change of None takes the field away."""
        return self.call("POST", "/v1/sandboxes", self.stage.wish(**changes))

    @contextlib.contextmanager
    def box(self, **changes: Any) -> Iterator[str]:
        """The path of a sandbox that lives as long as the block."""
        made = self.create(**changes)
        assert made.status == 202, made
        path = f"/v1/sandboxes/{made.body['id']}"
        try:
            yield path
        finally:
            gone = self.call("DELETE", path)
            assert gone.status in (204, 404), gone

    def shared_box(self, **changes: Any) -> str:
        """The path of a running sandbox that cases share, which leave it as it is."""
        key = json.dumps(changes)
        if key not in self._boxes:
            self._boxes[key] = self._shared.enter_context(self.box(**changes))
        return self._boxes[key]

    def shared_snapshot(self) -> str:
        """The id of a snapshot that cases share, which leave it as it is."""
        if "snapshot" not in self._boxes:
            self._boxes["snapshot"] = self._shared.enter_context(self.snapshot(self.shared_box()))
        return self._boxes["snapshot"]

    def give_back(self) -> None:
        """Deletes what cases have shared."""
        self._boxes.clear()
        self._shared.close()

    @contextlib.contextmanager
    def snapshot(self, of: str) -> Iterator[str]:
        """The id of a snapshot of the sandbox at this path that is Ready, and lives as long as the block."""
        made = self.call("POST", f"{of}/snapshots")
        assert made.status == 202, made
        path = f"/v1/snapshots/{made.body['id']}"
        self.stage.until(lambda: self.call("GET", path).body["status"]["state"] != "Creating", "the snapshot")
        try:
            yield made.body["id"]
        finally:
            gone = self.call("DELETE", path)
            assert gone.status in (204, 404), gone

    def rows(self) -> frozenset[str]:
        """Everything in its store but what is history: the events."""
        with contextlib.closing(sqlite3.connect(f"file:{self.store_path}?mode=ro", uri=True)) as store:
            kept = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'events'"
            names = [row[0] for row in store.execute(kept)]
            return frozenset(f"{name}: {row}" for name in names for row in store.execute(f"SELECT * FROM {name}"))


class Stage:
    """The servers, the Engine in front of the Engine, and what both have left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance = f"test-refusals-{uuid.uuid4().hex[:8]}"
        self.data = folder / "data"
        self.data.mkdir()
        self.real = api_client()
        self.engine = FaultyEngine(folder)
        # By its id: somebody may build another one of this name meanwhile.
        self.execd_image = str(self.real.inspect_image(EXECD_IMAGE)["Id"])
        self.houses: dict[str, House] = {}
        self.kits: dict[str, asyncio.Task[Kit]] = {}
        """What the servers have taken out of the execd image, once for all of them."""
        self._variants = variants(folder)
        self._registry: tuple[str, dict[str, str]] | None = None
        self._undo = contextlib.ExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)
        self._thread.start()
        self.run(self.engine.start(urlsplit(self._variants["elsewhere"]["docker"]["host"])))
        self._silent = self.run(asyncio.start_unix_server(_listen, self.folder / SILENT))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something done on the servers' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def close(self) -> None:
        """Ends everything."""
        for house in self.houses.values():
            house.give_back()
            self.run(house.stop())
        self.run(self.engine.stop())
        self.run(self._end_tasks())
        self._undo.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.real.close()

    async def _end_tasks(self) -> None:
        self._silent.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def settings(self, name: str, tables: dict[str, dict[str, Any]], store: Path) -> Settings:
        """The settings of a server: one that forgets failed creates at once, so that all it keeps was meant to stay."""
        document: dict[str, dict[str, Any]] = {
            "runtime": {"type": "docker", "execd_image": self.execd_image, "pending_failure_ttl_seconds": 0},
            "docker": {
                "network_mode": "bridge",
                "publish_host": "127.0.0.1",
                "instance": f"{self.instance}-{name}",
                "host": self.engine.url,
            },
            "storage": {"allowed_host_paths": [str(self.data)], "ossfs_mount_root": str(self.folder / "buckets")},
            "store": {"path": str(store)},
        }
        for table, keys in tables.items():
            document[table] = {**document.get(table, {}), **keys}
        return Settings.model_validate(document)

    def house(self, name: str) -> House:
        """The server of this name. The first one is warmed: what servers make once, they find from then on."""
        if name not in self.houses:
            house = self.houses[name] = House(self, name, self._variants[name])
            self.run(house.start())
            if name not in NEVER_READY:
                self.until(lambda: house.call("GET", "/ready").status == 200, "readiness")
            if len(self.houses) == 1:
                with house.box():
                    pass
        return self.houses[name]

    def registry(self) -> tuple[str, dict[str, str]]:
        """The address of a registry that asks for a password, and what lets in there."""
        if self._registry is None:
            if not registries.possible():
                pytest.skip("needs the packages docker-registry and apache2-utils")
            home = self.folder / "registry"
            home.mkdir()
            self._registry = self._undo.enter_context(registries.registry(home)), registries.LOGIN
        return self._registry

    def wish(self, **changes: Any) -> dict[str, Any]:
        """The body of a plain create."""
        plain = {
            "image": {"uri": SANDBOX_IMAGE},
            "entrypoint": ["tail", "-f", "/dev/null"],
            "timeout": 600,
            "resourceLimits": {},
            **changes,
        }
        return {key: value for key, value in plain.items() if value is not None}

    @staticmethod
    def until(condition: Callable[[], object], what: str) -> None:
        """Returns once the condition holds."""
        deadline = time.monotonic() + READY
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} within {READY:g} s")
            time.sleep(0.02)

    # faults

    @contextlib.contextmanager
    def refusing(self, method: str, path: str, message: str, status: int = 500) -> Iterator[None]:
        """The Engine answers this to requests whose path matches, for as long as the block."""
        with self._fault(Fault(method, re.compile(path), answer=(status, message))):
            yield

    @contextlib.contextmanager
    def altering(self, method: str, path: str, change: Callable[[Any], None]) -> Iterator[None]:
        """What the Engine tells is changed on its way, for as long as the block."""
        with self._fault(Fault(method, re.compile(path), change=change)):
            yield

    @contextlib.contextmanager
    def holding(self, method: str, path: str) -> Iterator[Callable[[], None]]:
        """Requests wait before they reach the Engine, until the block ends; what is yielded returns once one does."""
        gate = asyncio.Event()
        fault = Fault(method, re.compile(path), gate=gate)
        with self._fault(fault):
            try:
                yield lambda: self.until(fault.met.is_set, "request to hold")
            finally:
                self._loop.call_soon_threadsafe(gate.set)

    @contextlib.contextmanager
    def _fault(self, fault: Fault) -> Iterator[None]:
        self.engine.faults.append(fault)
        try:
            yield
        finally:
            self.engine.faults.remove(fault)


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes what comes and says nothing."""
    try:
        await reader.read()
    finally:
        writer.close()
