"""A program that answers everything and writes down what it was asked, for tests of who may ask."""

from __future__ import annotations

from typing import Final

from aiohttp import WSMsgType, web

PAGE: Final = "<!doctype html><title>Diary</title><p>An application."


class Diary:
    """The server, on a free port of this machine."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str, str]] = []
        """Kind and path of every request, oldest first."""
        self.cookies: list[str] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens."""
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        upgrade = socket.can_prepare(request).ok
        if request.path != "/favicon.ico":  # which browsers ask for when they like
            self.seen.append(("WebSocket" if upgrade else request.method, request.path))
        self.cookies.append(request.headers.get("Cookie", ""))
        if not upgrade:
            return web.Response(text=PAGE, content_type="text/html", headers={"Cache-Control": "no-store"})
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket
