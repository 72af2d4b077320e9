"""What the gateways of the neighbours benchmark have in common: an API of one answer, and serving until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from typing import Any, cast

HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"status":"healthy"}'


class Api(asyncio.Protocol):
    """Answers every request without a body alike."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        self._transport.write(HEALTHY * len(heads))


async def serve(plain: Any, behind: Any, port: int, prefaced: int) -> None:
    """Serves both gateways, `behind` to clients that send a PROXY preface."""
    await behind.listen("127.0.0.1", prefaced)
    await plain.listen("127.0.0.1", port)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await plain.stop()
    await behind.stop()
