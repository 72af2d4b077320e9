"""What stands between a client and the first request: TLS, and the PROXY protocol of load balancers."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.access.callers import TOLD
from gateway.proxy import tls_server
from tests.conformance.address import FORMS, Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import LIMITS, World, running
from tests.conformance.wire import OK, PATIENCE, Peer, Reply

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
NAME = "sb-8080.sandbox.test"
MEGABYTE = b"x" * (1 << 20)

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
FROM, TO = ipaddress.ip_address("203.0.113.7"), ipaddress.ip_address("192.0.2.1")
FROM6, TO6 = ipaddress.ip_address("2001:db8::7"), ipaddress.ip_address("2001:db8::1")
TCP4 = FROM.packed + TO.packed + b"\x30\x39\x01\xbb"
TCP6 = FROM6.packed + TO6.packed + b"\x30\x39\x01\xbb"


def v2(addresses: bytes, *, family: int = 0x11, command: int = 0x21, length: int | None = None) -> bytes:
    size = len(addresses) if length is None else length
    return V2 + bytes([command, family]) + size.to_bytes(2, "big") + addresses


@pytest.fixture
async def balanced() -> AsyncIterator[World]:
    """A gateway behind a load balancer, which the test plays."""
    async with running(World(trusted=["127.0.0.1"], proxy_protocol=True)) as made:
        yield made


PREFACES = family(
    "PROXY protocol",
    [
        Case("1, IPv4", b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n", saw=b"203.0.113.7"),
        Case("1, IPv6", b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n", saw=b"2001:db8::7"),
        Case("1, IPv6 written at length", b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 ::1 1 2\r\n", saw=b"2001:db8::7"),
        Case("1, unknown", b"PROXY UNKNOWN\r\n", saw=b"127.0.0.1"),
        Case("1, unknown with more", b"PROXY UNKNOWN ffff:f::1 ffff::2 65535 65535\r\n", saw=b"127.0.0.1"),
        Case("2, IPv4", v2(TCP4), saw=b"203.0.113.7"),
        Case("2, IPv6", v2(TCP6, family=0x21), saw=b"2001:db8::7"),
        Case("2, the proxy itself", v2(b"", family=0x00, command=0x20), saw=b"127.0.0.1"),
        Case("2, Unix socket", v2(b"/" * 216, family=0x31), saw=b"127.0.0.1"),
        Case("2, with more behind the addresses", v2(TCP4 + b"\x04\x00\x03abc"), saw=b"203.0.113.7"),
    ],
)


@pytest.mark.parametrize("step", [1, 10_000], ids=["in single bytes", "at once"])
@pytest.mark.parametrize("form", FORMS)
@every(PREFACES)
async def test_preface(balanced: World, case: Case, form: Form, step: int) -> None:
    """The load balancer says whose connection it is, and the sandbox is told so."""
    client = await balanced.connect()
    raw = case.raw + form.write(GET)
    for start in range(0, len(raw), step):
        await client.send(raw[start : start + step])
    assert (await client.message()).body == b"ok"
    assert balanced.backend.seen[0].all(b"x-forwarded-for") == [case.saw]


NO_PREFACES = family(
    "no PROXY protocol",
    [
        Case("a request", Form.HOST.write(GET), 400),
        Case("1, lower case", b"proxy TCP4 203.0.113.7 192.0.2.1 12345 443\r\n", 400),
        Case("1, no addresses", b"PROXY TCP4\r\n", 400),
        Case("1, no address", b"PROXY TCP4 999.0.113.7 192.0.2.1 12345 443\r\n", 400),
        Case("1, ended by LF", b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\n", 400),
        Case("1, two blanks", b"PROXY  TCP4 203.0.113.7 192.0.2.1 12345 443\r\n", 400),
        Case("1, too long", b"PROXY TCP4 " + b"1" * 200, 400),
        Case("1, unknown family", b"PROXY UDP4 203.0.113.7 192.0.2.1 12345 443\r\n", 400),
        Case("2, version 3", v2(TCP4, command=0x31), 400),
        Case("2, unknown command", v2(TCP4, command=0x22), 400),
        Case("2, too short for its addresses", v2(TCP4[:8]), 400),
        Case("2, too long", v2(TCP4, length=60_000), 400),
        Case("2, broken signature", v2(TCP4).replace(b"QUIT", b"QUIX"), 400),
    ],
)


@every(NO_PREFACES)
async def test_no_preface(balanced: World, case: Case) -> None:
    """A connection that does not start as it should is refused: anybody could leave the preface out."""
    client = await balanced.connect()
    await client.send(case.raw + Form.HOST.write(GET))
    assert (await client.message()).status == case.status
    assert await client.until_end() == b""
    assert balanced.backend.connections == 0


async def test_preface_of_a_stranger() -> None:
    """Only a configured proxy may say whose connection it is."""
    async with running(World(trusted=["203.0.113.1"], proxy_protocol=True)) as world:
        client = await world.connect()
        answer = await client.ask(PREFACES[0].raw + Form.HOST.write(GET))
        assert answer.status == 400


async def test_one_preface_only(balanced: World) -> None:
    """The preface stands before the first request and nowhere else."""
    client = await balanced.connect()
    await client.send(PREFACES[0].raw + Form.HOST.write(GET) + PREFACES[1].raw + Form.HOST.write(GET))
    assert [(await client.message()).status for _ in range(2)] == [200, 400]


async def test_client_behind_the_balancer_is_no_proxy(balanced: World) -> None:
    """What the client itself says of others is not believed."""
    client = await balanced.connect()
    raw = Form.HOST.write(b"GET /x HTTP/1.1\r\n{host}\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
    await client.ask(PREFACES[0].raw + raw)
    assert balanced.backend.seen[0].all(b"x-forwarded-for") == [b"203.0.113.7"]


# TLS.


@pytest.fixture
async def secure(serves: ssl.SSLContext) -> AsyncIterator[World]:
    """A gateway that speaks TLS."""
    async with running(World(tls=serves)) as made:
        yield made


def name(form: Form) -> str:
    return form.host.decode()


@in_each_form
async def test_tls(secure: World, trust: ssl.SSLContext, form: Form) -> None:
    """Behind TLS the sandbox is told https and its port."""
    client = await secure.connect(trust, name(form))
    for _ in range(3):
        assert (await client.ask(form.write(GET))).body == b"ok"
    message = secure.backend.seen[0]
    assert message.one(b"x-forwarded-proto") == b"https"
    assert message.one(b"x-forwarded-port") == b"443"


@in_each_form
async def test_tls_bodies(secure: World, trust: ssl.SSLContext, form: Form) -> None:
    """Large bodies pass both ways."""
    secure.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(MEGABYTE), MEGABYTE))
    client = await secure.connect(trust, name(form))
    raw = form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTE))
    answer = await client.ask(raw + MEGABYTE)
    assert answer.body == secure.backend.seen[0].body == MEGABYTE


@in_each_form
async def test_tls_early_answer(secure: World, trust: ssl.SSLContext, form: Form) -> None:
    """An early answer reaches a client that is still uploading, as it does without TLS."""
    secure.backend.reply = Reply(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\n\r\ntoo big", early=True, close=True)
    client = await secure.connect(trust, name(form))
    await client.send(form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 3000000\r\n\r\n"))
    await client.send(MEGABYTE)
    answer = await client.message()
    assert (answer.status, answer.body) == (413, b"too big")


@in_each_form
async def test_tls_refusal(secure: World, trust: ssl.SSLContext, form: Form) -> None:
    """A refusal arrives whole before the connection closes."""
    client = await secure.connect(trust, name(form))
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nX : y\r\n\r\n"))
    assert (answer.status, answer.complete) == (400, True)
    assert await client.until_end() == b""


@in_each_form
async def test_tls_truncation(secure: World, trust: ssl.SSLContext, form: Form) -> None:
    """An answer that breaks off is incomplete behind TLS as well."""
    secure.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", close=True)
    client = await secure.connect(trust, name(form))
    answer = await client.ask(form.write(GET))
    assert not answer.complete


@in_each_form
async def test_tls_websocket(secure: World, trust: ssl.SSLContext, form: Form) -> None:
    """WebSockets pass behind TLS."""

    async def accept(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(b"HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await peer.send(await peer.take(4))
        await peer.until_end()

    secure.backend.play = accept
    client = await secure.connect(trust, name(form))
    raw = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    await client.send(form.write(raw) + b"ping")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.take(1)
    assert await client.take(4) == b"ping"


async def test_handshake_that_does_not_end(serves: ssl.SSLContext) -> None:
    """Who connects to a TLS port and says nothing has as long as a request head has."""
    async with running(World(dataclasses.replace(LIMITS, head_timeout=0.2), tls=serves)) as world:
        client = await world.connect()
        assert await client.until_end() == b""


async def test_handshakes_are_connections(serves: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    """Who connects and says nothing is one of those that an address, and all of them, may have; its end makes room."""
    limits = dataclasses.replace(LIMITS, max_connections=8, max_client_connections=4)
    async with running(World(limits, tls=serves)) as world:
        silent = [await world.connect(tls=None) for _ in range(4)]
        plane = world.gateway._plane
        await world.until(lambda: len(plane.handshakes) == 4)
        assert (await (await world.connect(trust, NAME)).message()).status == 429
        others = [await world.connect(trust, NAME, source="127.0.0.2") for _ in range(4)]
        assert [(await client.ask(Form.HOST.write(GET))).status for client in others] == [200] * 4
        assert (await (await world.connect(trust, NAME, source="127.0.0.3")).message()).status == 503
        for client in silent:
            client.reset()
        await world.until(lambda: not plane.handshakes)
        assert (await (await world.connect(trust, NAME)).ask(Form.HOST.write(GET))).status == 200
        assert (plane.turned_away, world.gateway.counters.client_addresses) == (0, 2)


async def test_handshakes_take_turns(
    serves: ssl.SSLContext, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake begins with the client's first bytes, and in its turn: thousands may come at the same moment."""
    turns: list[Callable[[], None]] = []
    monkeypatch.setattr(tls_server, "put_off", turns.append)
    async with running(World(tls=serves)) as world:
        opening = [asyncio.create_task(world.connect(trust, NAME)) for _ in range(3)]
        await world.until(lambda: len(turns) == 3)
        assert len(world.gateway._plane.handshakes) == 3
        for number in range(3):
            assert sum(task.done() for task in opening) == number
            turns.pop()()
            await world.until(lambda: sum(task.done() for task in opening) > number)  # noqa: B023
        for task in opening:
            assert (await task.result().ask(Form.HOST.write(GET))).status == 200


async def test_few_handshakes_only_to_be_told(serves: ssl.SSLContext) -> None:
    """Beyond those with whom the handshake goes on to tell them that there are too many, they are closed."""
    async with running(
        World(dataclasses.replace(LIMITS, max_connections=2), tls=serves, trusted=["127.0.0.1"])
    ) as world:
        clients = [await world.connect() for _ in range(3 * TOLD)]
        counters = world.gateway.counters
        await world.until(lambda: counters.refusals == {"GATEWAY::TOO_MANY_CONNECTIONS": 2 * TOLD - 2})
        assert len(world.gateway._plane.handshakes) == 2 + TOLD
        for client in clients:
            client.reset()
        await world.until(lambda: not world.gateway._plane.handshakes)
        assert world.gateway._plane.turned_away == 0


async def test_handshakes_end_with_the_gateway(serves: ssl.SSLContext) -> None:
    """A shutdown leaves none of them open."""
    async with running(World(tls=serves)) as world:
        client = await world.connect()
        await world.until(lambda: len(world.gateway._plane.handshakes) == 1)
        await world.gateway.drain(PATIENCE)
        assert await client.until_end() == b""
        await world.until(lambda: not world.gateway._plane.handshakes)


async def test_a_client_that_does_not_end_its_tls(secure: World, trust: ssl.SSLContext) -> None:
    """A shutdown does not wait for the close_notify of a client that never sends one."""

    def connected() -> ssl.SSLSocket:
        return trust.wrap_socket(socket.create_connection(("127.0.0.1", secure.port)), server_hostname=NAME)

    with await asyncio.to_thread(connected):
        await secure.until(lambda: len(secure.gateway._plane.clients) == 1)
        await secure.gateway.drain(30)  # longer than a test may last
        assert not secure.gateway._plane.clients


async def test_plain_http_on_a_tls_port(secure: World) -> None:
    """Who speaks plain HTTP to a TLS port is closed, and disturbs nobody."""
    client = await secure.connect()
    await client.send(Form.HOST.write(GET))
    assert OK not in await client.until_end()
    assert secure.backend.connections == 0
