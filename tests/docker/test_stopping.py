"""SIGTERM on a server of two processes: what is under way is finished, who waits is told, and then it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conformance.wire import Client
from tests.conftest import StartServer
from tests.docker.revocation import INSIDE
from tests.docker.test_revocation import create
from tests.server_process import ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
PATIENCE = 20.0
EACH = 6
"""Connections of a kind: hardly all in one of the two processes."""
TABLES: dict[str, dict[str, Any]] = {
    "server": {"workers": 2, "shutdown_grace_seconds": 60},
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "127.0.0.1:8080"},
    "ingress.gateway.route": {"mode": "header"},
}
BODY = b"0123456789"
HALF = len(BODY) // 2


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """Two processes that serve."""
    started = start_server(TABLES)
    wait_until(lambda: "worker 1 serves" in started.output(), PATIENCE, "the start of the worker")
    return started


async def half_sent(server: ServerProcess, sandbox: str, path: bytes) -> Client:
    """A request of whose body one half has been sent."""
    client = await Client.connect(server.port)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: %b-%d\r\nContent-Length: %d\r\n\r\n"
    await client.send(head % (path, sandbox.encode(), INSIDE, len(BODY)) + BODY[:HALF])
    return client


async def websocket(server: ServerProcess, sandbox: str) -> ClientConnection:
    """An open WebSocket that has had its first message."""
    headers = {"OpenSandbox-Ingress-To": f"{sandbox}-{INSIDE}"}
    client = await connect(f"ws://127.0.0.1:{server.port}", additional_headers=headers, proxy=None)
    assert await client.recv() == "hi"
    return client


def refuses(server: ServerProcess) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_what_is_under_way_is_finished(server: ServerProcess) -> None:
    """Answers come whole and say that the connection ends, WebSockets hear 1001, nobody new is let in."""
    sandbox = create(server)
    assert server.process is not None
    process = server.process

    async def scene() -> None:
        answering = [await half_sent(server, sandbox, b"/echo") for _ in range(EACH)]
        heads = [await client.message(b"POST", body=False) for client in answering]
        assert [await client.take(HALF) for client in answering] == [BODY[:HALF]] * EACH
        waiting = [await half_sent(server, sandbox, b"/late") for _ in range(EACH)]
        tunnels = [await websocket(server, sandbox) for _ in range(EACH)]
        process.send_signal(signal.SIGTERM)
        for tunnel in tunnels:
            with pytest.raises(ConnectionClosed) as closed:
                await tunnel.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        await asyncio.to_thread(wait_until, lambda: refuses(server), PATIENCE, "the end of listening")
        for client in (*answering, *waiting):
            await client.send(BODY[HALF:])
        assert [head.status for head in heads] == [200] * EACH
        assert [await client.until_end() for client in answering] == [BODY[HALF:]] * EACH
        answers = [await client.message(b"POST") for client in waiting]
        assert [(one.status, one.body, one.one(b"connection")) for one in answers] == [(200, b"hi", b"close")] * EACH
        for client in (*answering, *waiting):
            await client.close()

    asyncio.run(scene())
    assert process.wait(PATIENCE) == 0
