"""A development server as front-end tools have them: modules, updates over a WebSocket, absolute paths throughout.

It does what such programs do that think they own the root of their origin: assets, imports, API calls, the update
socket and the event stream are all addressed from `/`, and its redirects and cookies name `/` too. One page reports
what worked in `window.report`, so that a test reads facts and a person looking at the screenshot sees the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, Final

from aiohttp import WSMsgType, web

FILES: Final = Path(__file__).parent / "site"
"""What the page consists of."""
TICK_SECONDS: Final = 0.05
UPLOAD_LIMIT: Final = 512 * 2**20
FIRST: Final = "first"
BLOCK: Final = bytes(range(256)) * 1024
"""The download repeats this: 256 KiB."""
SESSION: Final = "session=s3same; Path=/; HttpOnly"
PREFERENCE: Final = "theme=dark; path=/"


class DevSite:
    """The server, on a port of its own on this machine; keeps what it was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[web.BaseRequest] = []
        """Every request since the last `forget`, oldest first."""
        self.widget = FIRST
        """What the module that can be replaced while the page is open says."""
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Listens on a free port of 127.0.0.1, the same one after a stop; running already, it goes on."""
        if self._runner is not None:
            return
        self._stopping.clear()
        app = web.Application(client_max_size=UPLOAD_LIMIT, middlewares=[self._remember])
        app.add_routes(
            [
                web.get("/", self._file("index.html")),
                web.get("/about", self._file("about.html")),
                web.get("/welcome", self._file("about.html")),
                web.static("/assets", FILES / "assets"),
                web.get("/relative.js", self._file("relative.js")),
                web.get("/@dev/client.js", self._file("client.js")),
                web.get("/@dev/socket", self._socket),
                web.get("/src/main.js", self._file("main.js")),
                web.get("/src/widget.js", self._widget),
                web.get("/events", self._events),
                web.get("/api/request", self._request),
                web.post("/api/echo", self._echo),
                web.get("/login", self._login),
                web.get("/elsewhere", self._elsewhere),
                web.post("/upload", self._upload),
                web.get("/download", self._download),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Ends the streams and closes; `start` listens on the same port again."""
        self._stopping.set()
        for socket in list(self._sockets):
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def forget(self) -> None:
        """Starts the record of requests and edits anew."""
        self.requests.clear()
        self.widget = FIRST

    def seen(self, path: str) -> web.BaseRequest:
        """The last request for `path`; raises LookupError when there was none."""
        for request in reversed(self.requests):
            if request.path == path:
                return request
        raise LookupError(f"no request for {path}; there were {[request.path_qs for request in self.requests]}")

    async def edit(self, text: str) -> None:
        """Changes the module and tells open pages, as a development server does when a file is saved."""
        self.widget = text
        for socket in list(self._sockets):
            await socket.send_json({"type": "update", "path": "/src/widget.js"})

    @property
    def listeners(self) -> int:
        """How many pages hold an update socket open."""
        return len(self._sockets)

    @web.middleware
    async def _remember(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(request)
        answer: web.StreamResponse = await handler(request)
        return answer

    @staticmethod
    def _file(name: str) -> Any:
        async def send(request: web.Request) -> web.StreamResponse:
            return web.FileResponse(FILES / name, headers={"Cache-Control": "no-store"})

        return send

    async def _widget(self, request: web.Request) -> web.Response:
        return web.Response(
            text=f"export const text = {json.dumps(self.widget)};\n",
            content_type="text/javascript",
            headers={"Cache-Control": "no-store"},
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin", "").partition("://")[2] != request.host:
            # What Jupyter, code-server and development servers check against pages of other sites.
            raise web.HTTPForbidden(text="this origin is not mine")
        socket = web.WebSocketResponse(protocols=["dev-updates"])
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await socket.send_json({"type": "connected", "cookies": request.headers.get("Cookie", "")})
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            await self._tick(answer)
        return answer

    async def _tick(self, answer: web.StreamResponse) -> None:
        for tick in itertools.count(1):
            await answer.write(b"data: %d\n\n" % tick)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stopping.wait()
                    return

    async def _request(self, request: web.Request) -> web.Response:
        return web.json_response({"path": request.raw_path, "headers": dict(request.headers.items())})

    async def _echo(self, request: web.Request) -> web.Response:
        return web.json_response({"body": await request.text()})

    async def _login(self, request: web.Request) -> web.Response:
        answer = web.Response(status=303, headers={"Location": "/welcome"})
        answer.headers.add("Set-Cookie", SESSION)
        answer.headers.add("Set-Cookie", PREFERENCE)
        return answer

    async def _elsewhere(self, request: web.Request) -> web.Response:
        """Redirects to an absolute address of its own, made from the Host it sees."""
        return web.Response(status=302, headers={"Location": f"http://{request.host}/about"})

    async def _upload(self, request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for block in request.content.iter_any():
            digest.update(block)
            size += len(block)
        return web.json_response({"sha256": digest.hexdigest(), "size": size})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        blocks = int(request.query["blocks"])
        answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        answer.headers["Content-Disposition"] = 'attachment; filename="blocks.bin"'
        answer.content_length = blocks * len(BLOCK)
        await answer.prepare(request)
        for _ in range(blocks):
            await answer.write(BLOCK)
        return answer


def sha256_of_blocks(blocks: int) -> str:
    """The digest of a download of so many blocks."""
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
    return digest.hexdigest()
