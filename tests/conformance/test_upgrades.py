"""WebSocket and any other Upgrade: the handshake is the two ends' own, and afterwards bytes are bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.conformance.address import Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import World
from tests.conformance.sockets import WS_PORT, Sockets
from tests.conformance.wire import PATIENCE, Client, Peer, Reply

HANDSHAKE = (
    b"GET {path}/ws?a=1 HTTP/1.1\r\n{host}\r\n%b\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
ASK = b"Connection: Upgrade\r\nUpgrade: websocket"
LARGE = bytes(range(256)) * 4096 * 4


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@in_each_form
async def test_echo(sockets: Sockets, form: Form) -> None:
    """W1, W2: text goes there and back; the sandbox is spoken to under the public host."""
    seen: list[Request] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)
        await echo(connection)

    await sockets.serve(handler)
    async with sockets.connect(form) as client:
        await client.send("héllo")
        assert await client.recv() == "héllo"
    assert seen[0].path == "/ws"
    assert seen[0].headers["Host"] == form.write(b"{host}", port=WS_PORT).split(b"\r\n")[0].decode()[6:]


@in_each_form
async def test_subprotocol(sockets: Sockets, form: Form) -> None:
    """W3: the two ends agree on a subprotocol; the gateway does not choose."""
    await sockets.serve(echo, subprotocols=[Subprotocol("graphql-ws")])
    offers = [Subprotocol("graphql-transport-ws"), Subprotocol("graphql-ws")]
    async with sockets.connect(form, subprotocols=offers) as client:
        assert client.subprotocol == "graphql-ws"


@in_each_form
async def test_headers_of_the_handshake(sockets: Sockets, form: Form) -> None:
    """W4: cookies and any other header pass in both directions."""
    seen: list[Request] = []

    async def request(connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    async def response(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "a=1"
        response.headers["Set-Cookie"] = "b=2"

    await sockets.serve(echo, process_request=request, process_response=response)
    sent = {"Authorization": "Bearer x", "Cookie": "c=3", "Origin": "http://any.test", "X-Custom": "y"}
    async with sockets.connect(form, headers=sent) as client:
        assert client.response is not None
        assert client.response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert {name: seen[0].headers[name] for name in sent} == sent


@in_each_form
async def test_compression_is_end_to_end(sockets: Sockets, form: Form) -> None:
    """The extension is negotiated between the two ends."""
    await sockets.serve(echo)
    async with sockets.connect(form) as client:
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        await client.send("x" * 100_000)
        assert await client.recv() == "x" * 100_000


CLOSES = [
    (1000, "bye"),
    (1001, ""),
    (1008, "policy trip"),
    (1011, "failed"),
    (4001, "session expired"),
    (4999, "x" * 123),
]


@in_each_form
@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_of_the_sandbox(sockets: Sockets, form: Form, code: int, reason: str) -> None:
    """W5: code and reason of the sandbox reach the client."""

    async def close(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    await sockets.serve(close)
    async with sockets.connect(form) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


@in_each_form
@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_of_the_client(sockets: Sockets, form: Form, code: int, reason: str) -> None:
    """W6: code and reason of the client reach the sandbox."""
    closes: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closes.put_nowait((connection.close_code, connection.close_reason))

    await sockets.serve(wait)
    async with sockets.connect(form) as client:
        await client.close(code, reason)
    async with asyncio.timeout(PATIENCE):
        assert await closes.get() == (code, reason)


@in_each_form
async def test_client_that_vanishes(sockets: Sockets, form: Form) -> None:
    """W7: a client that drops its connection frees the sandbox's side."""
    ended = asyncio.Event()

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()
        assert connection.close_code == CloseCode.ABNORMAL_CLOSURE
        ended.set()

    await sockets.serve(wait)
    client: ClientConnection = await sockets.connect(form)
    client.transport.abort()
    async with asyncio.timeout(PATIENCE):
        await ended.wait()


@in_each_form
async def test_sandbox_that_vanishes(sockets: Sockets, form: Form) -> None:
    """A sandbox that drops its connection is an abnormal end for the client, not an orderly one."""

    async def vanish(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    await sockets.serve(vanish)
    async with sockets.connect(form) as client:
        await client.send("x")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is None


@in_each_form
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 128 * 1024, 4 * 1024 * 1024])
async def test_sizes(sockets: Sockets, form: Form, size: int) -> None:
    """W8-W10: messages of any size pass whole; there is no limit here."""
    await sockets.serve(echo, compression=None)
    async with sockets.connect(form, compression=None) as client:
        await client.send(LARGE[:size])
        assert await client.recv() == LARGE[:size]


@in_each_form
async def test_pings_are_end_to_end(sockets: Sockets, form: Form) -> None:
    """A ping is answered by the other end."""
    await sockets.serve(echo)
    async with sockets.connect(form) as client:
        async with asyncio.timeout(PATIENCE):
            await (await client.ping(b"payload"))


REFUSALS = family(
    "refused handshakes",
    [
        Case("redirect", b"HTTP/1.1 302 Found\r\nLocation: http://other.test/\r\nContent-Length: 0\r\n\r\n", 302),
        Case(
            "login",
            b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 5\r\n\r\nlogin',
            401,
        ),
        Case("forbidden", b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 403),
        Case(
            "other version",
            b"HTTP/1.1 426 No\r\nUpgrade: h9\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
            426,
        ),
        Case("large page", b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 404),
        Case("plain answer", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        Case("nothing", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    ],
)


@in_each_form
@every(REFUSALS)
async def test_refusal(world: World, case: Case, form: Form) -> None:
    """W11, W12: a handshake that the sandbox refuses is an ordinary answer, and the connection goes on."""
    world.backend.replies = [Reply(case.raw)]
    client = await world.connect()
    answer = await client.ask(form.write(HANDSHAKE % ASK))
    assert answer.status == case.status
    assert answer.complete
    assert world.backend.seen[0].one(b"upgrade") == b"websocket"
    again = await client.ask(form.write(b"GET {path}/again HTTP/1.1\r\n{host}\r\n\r\n"))
    assert (again.status, again.body) == (200, b"ok")


async def test_refusal_by_the_library(sockets: Sockets) -> None:
    """A client library sees the refusal as if there were no gateway."""

    async def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(401, "login first\n")

    await sockets.serve(echo, process_request=refuse)
    with pytest.raises(InvalidStatus) as refused:
        await sockets.connect(Form.HOST)
    assert refused.value.response.status_code == 401
    assert refused.value.response.body == b"login first\n"


ASKED = family(
    "handshakes passed on",
    [
        Case("plain", ASK),
        Case("keep-alive too", b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket"),
        Case("lower case", b"connection: upgrade\r\nupgrade: websocket"),
        Case("upper case", b"CONNECTION: UPGRADE\r\nUPGRADE: WEBSOCKET"),
        Case("capital S", b"Connection: Upgrade\r\nUpgrade: WebSocket"),
        Case("two lines", b"Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket"),
        Case("no blanks", b"Connection:keep-alive,Upgrade\r\nUpgrade:websocket"),
        Case("other order", b"Upgrade: websocket\r\nConnection: Upgrade"),
        Case("origin", ASK + b"\r\nOrigin: http://gateway.test"),
        Case("extensions", ASK + b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        Case("subprotocols", ASK + b"\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c"),
        Case("authorization", ASK + b"\r\nAuthorization: Bearer x\r\nCookie: a=b"),
    ],
)


def switching(extra: bytes = b"") -> Callable[[Peer], Awaitable[None]]:
    """A backend that accepts and then sends back what it gets."""

    async def accept(peer: Peer) -> None:
        head = await peer.message(body=False)
        offers = head.one(b"upgrade") or b"none"
        await peer.send(SWITCH % offers.rpartition(b", ")[2] + extra)
        while True:
            await peer.send(await peer.take(1))

    return accept


@in_each_form
@every(ASKED)
async def test_asked(world: World, case: Case, form: Form) -> None:
    """W13: every spelling of a handshake is one, and its lines arrive as they were."""
    world.backend.play = switching()
    client = await world.connect()
    answer = await handshake(client, form.write(HANDSHAKE % case.raw))
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    await client.send(b"ping")
    assert await client.take(4) == b"ping"


async def handshake(client: Client, raw: bytes) -> bytes:
    """Sends a handshake and returns the head of the answer."""
    await client.send(raw)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.take(1)
    return head


PLAIN = family(
    "requests that are no handshake",
    [
        Case("no Connection", b"Upgrade: websocket"),
        Case("Connection without Upgrade", b"Connection: keep-alive\r\nUpgrade: websocket"),
        Case("Connection alone", b"Connection: Upgrade"),
        Case("part of a word", b"Connection: Upgrades\r\nUpgrade: websocket"),
        Case("HTTP/2 without TLS", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
    ],
)


@in_each_form
@every(PLAIN)
async def test_plain(world: World, case: Case, form: Form) -> None:
    """What is no handshake is an ordinary request, and no Upgrade reaches the sandbox."""
    client = await world.connect()
    assert (await client.ask(form.write(HANDSHAKE % case.raw))).status == 200
    assert world.backend.seen[0].one(b"upgrade") is None
    assert world.backend.seen[0].one(b"connection") is None


@in_each_form
async def test_with_a_body(world: World, form: Form) -> None:
    """A request with a body is no handshake: its body would be the tunnel's first bytes."""
    client = await world.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\n%b\r\nContent-Length: 5\r\n\r\nhello" % ASK
    assert (await client.ask(form.write(raw))).status == 200
    assert world.backend.seen[0].one(b"upgrade") is None
    assert world.backend.seen[0].body == b"hello"


@in_each_form
@pytest.mark.parametrize("protocol", [b"tcp", b"foo/2, bar", b"SPDY/3.1", b"TLS/1.2"])
async def test_other_protocols(world: World, form: Form, protocol: bytes) -> None:
    """Any protocol can be switched to, when the sandbox accepts what the client offered."""
    world.backend.play = switching()
    client = await world.connect()
    raw = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
    assert b" 101 " in await handshake(client, form.write(raw))
    await client.send(bytes(range(256)))
    assert await client.take(256) == bytes(range(256))


@in_each_form
async def test_bytes_with_the_heads(world: World, form: Form) -> None:
    """Bytes in the same packet as a handshake or its answer are the tunnel's first."""
    world.backend.play = switching(b"first")
    client = await world.connect()
    await client.send(form.write(HANDSHAKE % ASK) + b"early")
    head = await handshake(client, b"")
    assert b" 101 " in head
    assert await client.take(10) == b"firstearly"


UNASKED = family(
    "switches that nobody asked for",
    [
        Case("to a GET", b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"),
        Case("to an old client", b"GET {path}/x HTTP/1.0\r\n{host}\r\nConnection: keep-alive\r\n\r\n"),
        Case("to a HEAD", b"HEAD {path}/x HTTP/1.1\r\n{host}\r\n\r\n"),
        Case("to a POST", b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 2\r\n\r\nok"),
        Case("to an upload", b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 20\r\n\r\nok"),
        Case("to chunks", b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
        Case("to a last request", b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"),
        Case("to an Upgrade alone", b"GET {path}/x HTTP/1.1\r\n{host}\r\nUpgrade: websocket\r\n\r\n"),
        Case("to HTTP/2", b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    ],
)


@in_each_form
@every(UNASKED)
@pytest.mark.parametrize("after", ["stays", "closes", "resets"])
@pytest.mark.parametrize(
    "head",
    [
        SWITCH % b"websocket",
        SWITCH % b"websocket" + b"\x81\x02hi",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH % b"websocket",
        SWITCH[:-2] % b"websocket" + b"Content-Length: 2\r\n\r\nhi",
        SWITCH[:-2] % b"websocket" + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ],
    ids=["plain", "with bytes", "bare", "old", "after a hint", "with a length", "in chunks"],
)
async def test_unasked_switch(world: World, case: Case, form: Form, after: str, head: bytes) -> None:
    """A 101 that nobody asked for is 502, whatever the request, and whatever the sandbox does next."""
    world.backend.reply = Reply(head, close=after == "closes", reset=after == "resets", early=True)
    client = await world.connect()
    raw = form.write(case.raw)
    assert (await client.ask(raw, raw.partition(b" ")[0])).status == 502
    assert world.gateway.counters.tunnels_total == 0


SWITCHES = [b"other", b"", b"websocket2"]


@in_each_form
@pytest.mark.parametrize("protocol", SWITCHES)
async def test_switch_to_something_else(world: World, form: Form, protocol: bytes) -> None:
    """A sandbox cannot switch to what was not offered."""
    world.backend.reply = Reply(SWITCH % protocol)
    client = await world.connect()
    assert (await client.ask(form.write(HANDSHAKE % ASK))).status == 502


@in_each_form
async def test_half_close_of_the_client(world: World, form: Form) -> None:
    """A client that finishes sending still gets what the sandbox has to say."""

    async def answer_at_the_end(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(SWITCH % b"tcp")
        got = await peer.until_end()
        await peer.send(b"got %d" % len(got))

    world.backend.play = answer_at_the_end
    client = await world.connect()
    raw = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    await handshake(client, form.write(raw))
    await client.send(LARGE)
    client.finish()
    assert await client.until_end() == b"got %d" % len(LARGE)


@in_each_form
async def test_half_close_of_the_sandbox(world: World, form: Form) -> None:
    """A sandbox that finishes sending still gets what the client has to say."""

    async def finish_first(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(SWITCH % b"tcp")
        peer.writer.write_eof()
        got.append(await peer.until_end())
        world.backend.step()

    got: list[bytes] = []
    world.backend.play = finish_first
    client = await world.connect()
    raw = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    await handshake(client, form.write(raw))
    assert await client.until_end() == b""
    await client.send(LARGE)
    client.finish()
    await world.backend.next_step()
    assert got == [LARGE]
