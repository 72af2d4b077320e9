"""The real Engine behind a socket that can refuse, alter or hold one answer, and that keeps a list of what was made.

For faults that a healthy Engine does not show; whatever no fault is set for goes to the Engine and back as it is.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import aiohttp
from aiohttp import web
from yarl import URL

from tests.engine import engine_socket

_MOST = 64 * 1024 * 1024
_OURS = frozenset({"transfer-encoding", "connection", "content-length"})
_MAKING = {
    "containers": re.compile(r"/containers/create\?.*?\bname=([^&]+)"),
    "volumes": re.compile(r"/volumes/create$"),
    "networks": re.compile(r"/networks/create$"),
    "images": re.compile(r"/(?:images/create\?.*?\bfromImage=([^&]+)|commit\?)"),
}


@dataclass
class Fault:
    """What happens to requests whose method and path match, until it is lifted."""

    method: str
    path: re.Pattern[str]
    answer: tuple[int, str] | None = None
    change: Callable[[Any], None] | None = None
    gate: asyncio.Event | None = None
    met: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request has met it."""


@dataclass(frozen=True)
class Made:
    """One thing the Engine made: of which kind, its name, and during which case."""

    kind: str
    name: str
    during: str


class FaultyEngine:
    """One such socket. Faults are set and lifted from any thread; the first that matches counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.made: list[Made] = []
        self.case = ""
        self._runners: list[web.AppRunner] = []
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """What docker.host says."""
        return f"unix://{self.folder}/engine.sock"

    async def start(self, also: SplitResult) -> None:
        """Listens on its socket and at a TCP address."""
        connector = aiohttp.UnixConnector(engine_socket(), limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(), auto_decompress=False
        )
        app = web.Application(client_max_size=_MOST)
        app.router.add_route("*", "/{tail:.*}", self._pass)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(self.folder / "engine.sock")).start()
        await web.TCPSite(runner, also.hostname, also.port).start()
        self._runners.append(runner)

    async def stop(self) -> None:
        """Stops listening and lets nobody wait."""
        for fault in self.faults:
            if fault.gate is not None:
                fault.gate.set()
        for runner in self._runners:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        fault = next((one for one in self.faults if _meets(one, request)), None)
        if fault is not None:
            fault.met.set()
            if fault.gate is not None:
                await fault.gate.wait()
            if fault.answer is not None:
                status, message = fault.answer
                return web.json_response({"message": message}, status=status)
        return await self._ask(request, None if fault is None else fault.change)

    async def _ask(self, request: web.Request, change: Callable[[Any], None] | None) -> web.StreamResponse:
        if self._session is None:
            raise web.HTTPServiceUnavailable
        body = await request.read()
        url = URL(f"http://engine{request.raw_path}", encoded=True)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _OURS | {"host"}}
        async with self._session.request(request.method, url, data=body or None, headers=headers) as told:
            if request.method == "POST" and told.status < 400:
                self._note(request.raw_path, body)
            if change is not None:
                document = await told.json()
                change(document)
                return web.json_response(document, status=told.status)
            kept = {key: value for key, value in told.headers.items() if key.lower() not in _OURS}
            if told.status in (204, 304) or told.headers.get("Content-Length") == "0":
                return web.Response(status=told.status, headers=kept)
            response = web.StreamResponse(status=told.status, headers=kept)
            await response.prepare(request)
            async for piece in told.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    def _note(self, path: str, body: bytes) -> None:
        for kind, pattern in _MAKING.items():
            found = pattern.search(path)
            if found is not None:
                named = next((text for text in found.groups() if text), None)
                self.made.append(Made(kind, named or _name_in(path, body), self.case))


def _name_in(path: str, body: bytes) -> str:
    if "/commit" in path:
        query = URL(path).query
        return f"{query['repo']}:{query['tag']}"
    return str(json.loads(body)["Name"])


def _meets(fault: Fault, request: web.Request) -> bool:
    return request.method == fault.method and fault.path.search(request.raw_path) is not None
