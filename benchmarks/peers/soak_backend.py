"""What runs in the sandboxes of the soak: an aiohttp application, so that no code is shared with the gateway.

Every body is a function of its seed, and every answer says the hash of what was sent or received.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
from collections.abc import AsyncIterator

from aiohttp import WSCloseCode, web

BLOCK = 16_384
LARGEST_MESSAGE = 1 << 21
LINES = 100
LINE_BYTES = 200


def content(seed: int, size: int) -> bytes:
    """The body with this seed."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    """The hash that both sides compare."""
    return hashlib.sha256(data).hexdigest()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """A body in blocks, with a turn of the loop between them."""
    for at in range(0, len(data), BLOCK):
        yield data[at : at + BLOCK]
        await asyncio.sleep(0)


async def get_bytes(request: web.Request) -> web.StreamResponse:
    """A body of known content: in one piece with its length, or in chunks."""
    seed, size = int(request.match_info["seed"]), int(request.match_info["size"])
    data = content(seed, size)
    headers = {"X-Seed": str(seed), "X-Hash": digest(data)}
    if "chunked" not in request.query:
        return web.Response(body=data, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for piece in pieces(data):
        await response.write(piece)
    await response.write_eof()
    return response


async def lines(request: web.Request) -> web.Response:
    """An answer with many header lines that nobody has seen before."""
    name = request.match_info["name"]
    return web.Response(headers={f"X-{name}-{number}": "x" * LINE_BYTES for number in range(LINES)})


async def upload(request: web.Request) -> web.Response:
    """Reads a body and says what it was."""
    hashed, size = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        hashed.update(piece)
        size += len(piece)
    return web.json_response({"size": size, "hash": hashed.hexdigest()})


async def echo(request: web.Request) -> web.StreamResponse:
    """Sends the body back while it comes in."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    await response.write_eof()
    return response


async def refuse(request: web.Request) -> web.Response:
    """Answers without reading the body."""
    response = web.Response(status=413, text="too large")
    response.force_close()
    return response


async def cut(request: web.Request) -> web.StreamResponse:
    """Announces a body, sends half of it and drops the connection."""
    size = int(request.match_info["size"])
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    await response.prepare(request)
    await response.write(bytes(size // 2))
    assert request.transport is not None
    request.transport.abort()
    return response


async def events(request: web.Request) -> web.StreamResponse:
    """Numbered server-sent events, each with the hash of its number; without `count` until somebody ends them."""
    count, pause = int(request.query.get("count", 1 << 60)), float(request.query["pause"])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(count):
        line = json.dumps({"number": number, "hash": digest(str(number).encode())})
        await response.write(f"data: {line}\n\n".encode())
        await asyncio.sleep(pause)
    await response.write_eof()
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Sends every message back."""
    socket = web.WebSocketResponse(max_msg_size=LARGEST_MESSAGE)
    await socket.prepare(request)
    async for message in socket:
        if isinstance(message.data, str):
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    await socket.close(code=WSCloseCode.OK)
    return socket


def application() -> web.Application:
    """The application, with every kind of traffic under a path of its own."""
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(
        [
            web.get("/bytes/{seed}/{size}", get_bytes),
            web.get("/lines/{name}", lines),
            web.post("/upload", upload),
            web.post("/echo", echo),
            web.post("/refuse", refuse),
            web.get("/cut/{size}", cut),
            web.get("/events", events),
            web.get("/ws", websocket),
        ]
    )
    return app


async def start(port: int) -> web.AppRunner:
    """Serves on 127.0.0.1 in this process; clients that go away are no news here."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1.0, keepalive_timeout=30)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner
