"""nginx and Caddy in front, configured as docs/network.md says: what passes, and what no client can say of itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.wire import OK, Client, Message, Peer, Reply
from tests.gateway.certificate import Files
from tests.server_process import free_port
from tests.strangers.several import PATIENCE, Several, serving

pytestmark = pytest.mark.timeout(60)
PAGE = (Path(__file__).parents[2] / "docs" / "network.md").read_text()
GET = b"GET /x HTTP/1.1\r\nHost: sb-8080.sandbox.test:%d\r\n%b\r\n"
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLIENT = b"127.0.0.2"
HOST = "sb-8080.sandbox.test"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def told(mark: str) -> str:
    """The configuration on the page behind these words."""
    rest = PAGE.partition(mark)[2].partition("\n\n")[2]
    lines = rest.splitlines()
    end = next(number for number, line in enumerate(lines) if line and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[:end]))


def nginx(folder: Path, port: int, to: int, files: Files) -> list[str]:
    """Writes its configuration and returns the command."""
    main = told("For nginx:").replace("listen 443", f"listen 127.0.0.1:{port}").replace(":8080", f":{to}")
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{ }}\n"
        f"http {{ access_log off; {paths}\n{in_place(main, files)}\n}}\n"
    )
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def caddy(folder: Path, port: int, to: int, files: Files) -> list[str]:
    """Likewise."""
    main = told("For Caddy").replace("*.sandbox.example.com {", f"https://*.sandbox.test:{port} {{\nbind 127.0.0.1")
    main = main.replace(":8080", f":{to}")
    (folder / "Caddyfile").write_text(f"{{\nadmin off\nauto_https disable_redirects\n}}\n{in_place(main, files)}\n")
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def in_place(text: str, files: Files) -> str:
    """With the test's certificate and domain."""
    text = text.replace("sandbox.example.com", "sandbox.test")
    return text.replace("/etc/tls/fullchain.pem", str(files.chain)).replace("/etc/tls/privkey.pem", str(files.key))


FRONTS = {"nginx": nginx, "caddy": caddy}


class Front:
    """A running proxy, with the server behind it."""

    def __init__(self, name: str, server: Several, port: int, trust: ssl.SSLContext) -> None:
        self.name = name
        self.server = server
        self.backend = server.backend
        self.port = port
        self._trust = trust

    async def connect(self) -> Client:
        """A client of the proxy."""
        client = await Client.connect(self.port, self._trust, HOST, CLIENT.decode())
        self.server.clients.append(client)
        return client

    async def get(self, lines: bytes = b"") -> Message:
        """One request to the sandbox."""
        return await (await self.connect()).ask(GET % (self.port, lines))

    async def comes_up(self) -> None:
        """Waits until it accepts connections."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    await (await self.connect()).close()
                    return
                await asyncio.sleep(0.02)


@pytest.fixture(params=list(FRONTS))
async def front(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Front]:
    """A proxy in front of a server that trusts it."""
    name: str = request.param
    if shutil.which(name, path=PROGRAMS) is None:
        pytest.skip(f"needs {name}")
    for folder in ("server", "front"):
        (tmp_path / folder).mkdir()
    files, port = Files(tmp_path / "front"), free_port()
    ingress = {"mode": "gateway", "gateway": {"address": "*.sandbox.test", "route": {"mode": "wildcard"}}}
    trusting = {"trusted_proxies": ["127.0.0.1"]}
    async with serving(tmp_path / "server", tls=False, processes=1, server=trusting, ingress=ingress) as server:
        command = FRONTS[name](tmp_path / "front", port, server.port, files)
        environment = {"HOME": str(tmp_path), "PATH": PROGRAMS}
        with (tmp_path / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
        try:
            made = Front(name, server, port, ssl.create_default_context(cafile=str(files.chain)))
            await made.comes_up()
            yield made
        finally:
            process.terminate()
            await process.wait()


async def test_who_asks(front: Front) -> None:
    """The sandbox is told the client's address and scheme, and nothing that the client says of them itself."""
    forged = [
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Forwarded-Proto: gopher",
        b"X-Forwarded-Host: evil",
        b"X-Real-IP: 1.2.3.4",
    ]
    more = [b"X-Forwarded-Port: 1", b"Forwarded: for=1.2.3.4;host=evil;proto=gopher"]
    assert (await front.get(b"".join(line + b"\r\n" for line in forged + more))).body == b"ok"
    (message,) = front.backend.seen
    assert message.one(b"x-forwarded-for") == CLIENT + b", 127.0.0.1"
    assert message.one(b"x-forwarded-proto") == b"https"
    assert message.one(b"x-forwarded-host") == b"%b:%d" % (HOST.encode(), front.port)
    assert b"evil" not in message.raw_head
    assert b"gopher" not in message.raw_head


async def test_names_with_underscores(front: Front) -> None:
    """nginx leaves such lines out."""
    assert (await front.get(b"A_B: 1\r\n")).status == 200
    assert front.backend.seen[0].all(b"a_b") == ([] if front.name == "nginx" else [b"1"])


async def test_large_heads(front: Front) -> None:
    """Heads of 60 KB pass in both directions."""
    front.backend.reply = Reply(OK.replace(b"\r\n\r\n", b"\r\nA: %b\r\n\r\n" % (b"a" * 60_000)))
    answer = await front.get(b"B: %b\r\n" % (b"b" * 60_000))
    assert (answer.status, len(answer.one(b"a") or b"")) == (200, 60_000)
    assert len(front.backend.seen[0].one(b"b") or b"") == 60_000


async def test_events_come_at_once(front: Front) -> None:
    """An event is there before the next one is sent."""

    async def events(peer: Peer) -> None:
        await peer.message()
        await peer.send(EVENTS)
        for _ in range(3):
            await peer.send(b"data: x\n\n")
            await front.backend.next_turn()

    front.backend.play = events
    client = await front.connect()
    await client.send(GET % (front.port, b""))
    for _ in range(3):
        await client.until(b"data: x\n\n")
        front.backend.turn()


async def test_uploads_come_at_once(front: Front) -> None:
    """A part of a request body is there before the next one is sent."""

    async def parts(peer: Peer) -> None:
        await peer.message(body=False)
        for _ in range(3):
            await peer.take(1000)
            front.backend.step()
        await peer.send(OK)

    front.backend.play = parts
    client = await front.connect()
    await client.send(GET.replace(b"GET", b"POST") % (front.port, b"Content-Length: 3000\r\n"))
    for _ in range(3):
        await client.send(b"x" * 1000)
        await front.backend.next_step()
    assert (await client.message()).status == 200


async def test_websocket(front: Front) -> None:
    """Frames pass in both directions, and the end of one side is the end of the other."""

    async def echo(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await peer.send(await peer.take(7))

    front.backend.play = echo
    client = await front.connect()
    await client.send(GET % (front.port, b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    assert b" 101 " in await client.until(b"\r\n\r\n")
    await client.send(b"\x82\x81\0\0\0\0x")
    assert await client.take(7) == b"\x82\x81\0\0\0\0x"
    assert await client.until_end() == b""


async def test_answer_that_is_cut_short(front: Front) -> None:
    """The client sees that something is missing; of a body without a length not with every Caddy."""
    front.backend.reply = Reply(
        EVENTS.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), close=True
    )
    assert not (await front.get()).complete or front.name == "caddy"
    front.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", close=True)
    assert not (await front.get()).complete
