"""WebSockets through the gateway, by a library that is not ours at both ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve

from tests.conformance.address import Form
from tests.conformance.harness import World

WS_PORT = 9000

Handler = Callable[[ServerConnection], Awaitable[None]]


class Sockets:
    """A WebSocket server behind the sandbox, and clients of it, both by a library that is not ours."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server: Server | None = None

    async def serve(self, handler: Handler, **options: object) -> None:
        """Starts the server with what it does with each connection."""
        self.server = await serve(handler, "127.0.0.1", 0, max_size=None, **options)  # type: ignore[arg-type]
        self.world.expose(WS_PORT, next(iter(self.server.sockets)).getsockname()[1])

    def connect(self, form: Form, **options: object) -> connect:
        """A client that comes through the gateway."""
        line = form.write(b"{host}", port=WS_PORT)
        host, _, rest = line.removeprefix(b"Host: ").decode().partition("\r\n")
        headers = dict([rest.split(": ", 1)]) if rest else {}
        headers.update(options.pop("headers", {}))  # type: ignore[call-overload]
        uri = f"ws://{host}{form.write(b'{path}', port=WS_PORT).decode()}/ws"
        return connect(
            uri,
            host="127.0.0.1",
            port=self.world.port,
            additional_headers=headers,
            max_size=None,
            proxy=None,
            **options,  # type: ignore[arg-type]
        )

    async def stop(self) -> None:
        """Stops the server."""
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
