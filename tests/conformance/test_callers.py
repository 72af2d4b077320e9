"""One client address among others: what it may have open, how often it may ask, and that the others do not notice."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gateway.access.callers import TOLD
from gateway.limits import Limits
from tests.conformance.address import Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import LIMITS, World, running
from tests.conformance.wire import Client, Message

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n"
PLAIN = Form.HOST.write(GET % b"")
OTHER = "127.0.0.2"
PROXY = ["127.0.0.1"]
PREFACE = b"PROXY TCP4 %b 127.0.0.1 4711 80\r\n"


def code(answer: Message) -> tuple[int, str]:
    return answer.status, "" if answer.status == 200 else str(json.loads(answer.body)["code"])


def tight(**changes: float) -> Limits:
    return dataclasses.replace(LIMITS, **changes)  # type: ignore[arg-type]


async def served(client: Client) -> bool:
    """Whether the connection answers a request."""
    return (await client.ask(PLAIN)).status == 200


# Connections.


async def test_connections_of_one_address() -> None:
    """An address has so many connections; the next one is told so and closed, and others go on."""
    async with running(World(tight(max_client_connections=2))) as world:
        mine = [await world.connect() for _ in range(2)]
        one_more = await world.connect()
        answer = await one_more.message()
        assert code(answer) == (429, "GATEWAY::TOO_MANY_CLIENT_CONNECTIONS")
        assert answer.one(b"retry-after") == b"1"
        assert await one_more.until_end() == b""
        assert [await served(client) for client in mine] == [True, True]
        assert await served(await world.connect(source=OTHER))
        assert world.gateway.counters.client_addresses == 2


async def test_room_again() -> None:
    """A connection that ends makes room for another."""
    async with running(World(tight(max_client_connections=1))) as world:
        for _ in range(3):
            client = await world.connect()
            assert await served(client)
            await client.close()
            await world.until(lambda: world.gateway.counters.connections == 0)
        assert world.gateway.counters.client_addresses == 0


async def test_room_while_others_are_told() -> None:
    """Connections that are refused, and not closed by their client, do not keep others of its address out."""
    async with running(World(tight(max_client_connections=1))) as world:
        held = await world.connect()
        assert await served(held)
        refused = [await world.connect() for _ in range(5)]
        assert [(await client.message()).status for client in refused] == [429] * 5
        await held.close()
        await world.until(lambda: world.gateway.counters.connections == 5)
        assert await served(await world.connect())


async def test_one_client_cannot_take_all() -> None:
    """By default one address gets half of all connections, and what it opens beyond does not stay open."""
    async with running(World(tight(max_connections=200))) as world:
        for _ in range(400):
            await world.connect()
        await world.until(lambda: world.gateway.counters.connections_total == 400)
        await world.until(lambda: world.gateway.counters.connections <= 100 + TOLD)
        assert await served(await world.connect(source=OTHER))
        assert world.gateway.counters.refusals == {"GATEWAY::TOO_MANY_CLIENT_CONNECTIONS": 300}


async def test_connections_of_a_trusted_proxy() -> None:
    """A proxy in front carries everybody's requests: its connections are not counted."""
    async with running(World(tight(max_client_connections=1), trusted=PROXY)) as world:
        assert [await served(await world.connect()) for _ in range(3)] == [True] * 3
        assert world.gateway.counters.client_addresses == 0


async def test_connections_behind_the_proxy_protocol() -> None:
    """Whoever a trusted balancer names in its preface is the client that is counted, an IPv6 one by its /64."""
    limits = tight(max_client_connections=1)
    async with running(World(limits, trusted=PROXY, proxy_protocol=True)) as world:
        for address in (b"203.0.113.1", b"203.0.113.2"):
            client = await world.connect()
            await client.send(PREFACE % address)
            assert await served(client)
        second = await world.connect()
        await second.send(PREFACE % b"203.0.113.1" + PLAIN)
        assert code(await second.message()) == (429, "GATEWAY::TOO_MANY_CLIENT_CONNECTIONS")
        for address, status in ((b"2001:db8:1:1::1", 200), (b"2001:db8:1:1:ffff::2", 429), (b"2001:db8:1:2::1", 200)):
            client = await world.connect()
            await client.send(PREFACE.replace(b"TCP4", b"TCP6").replace(b"127.0.0.1", b"::1") % address + PLAIN)
            assert (await client.message()).status == status


# Heads.


async def test_heads_in_progress() -> None:
    """An address has so many requests whose head is not complete; the next one is told so, and others go on."""
    async with running(World(tight(max_client_heads=2))) as world:
        for _ in range(2):
            await (await world.connect()).send(PLAIN[:20])
        await world.settled()
        slow = await world.connect()
        await slow.send(PLAIN[:20])
        assert code(await slow.message()) == (429, "GATEWAY::TOO_MANY_CLIENT_HEADS")
        assert await served(await world.connect())
        other = await world.connect(source=OTHER)
        await other.send(PLAIN[:20])
        await world.settled()
        await other.send(PLAIN[20:])
        assert (await other.message()).status == 200


async def test_heads_that_end() -> None:
    """A head that is complete, or whose connection has gone, is not counted any more, in however many parts it came."""
    async with running(World(tight(max_client_heads=1))) as world:
        client = await world.connect()
        for _ in range(3):
            for part in (PLAIN[:9], PLAIN[9:20], PLAIN[20:]):
                await client.send(part)
                await world.settled()
            assert (await client.message()).status == 200
        await client.send(PLAIN[:20])
        await world.settled()
        await client.close()
        await world.until(lambda: world.gateway.counters.connections == 0)
        client = await world.connect()
        await client.send(PLAIN[:20])
        await world.settled()
        await client.send(PLAIN[20:])
        assert (await client.message()).status == 200


# Requests.


@in_each_form
async def test_requests_of_one_address(form: Form) -> None:
    """An address asks so often, on however many connections; a refusal leaves the connection and the others be."""
    async with running(World(tight(client_requests_per_second=0.01, client_requests_burst=3))) as world:
        raw = form.write(GET % b"")
        first, second = await world.connect(), await world.connect()
        answers = [await client.ask(raw) for client in (first, second, first, second, first)]
        assert [code(answer) for answer in answers] == [(200, "")] * 3 + [(429, "GATEWAY::CLIENT_RATE_LIMITED")] * 2
        assert answers[-1].one(b"retry-after") == b"100"
        assert (await (await world.connect(source=OTHER)).ask(raw)).status == 200
        assert len(world.backend.seen) == 4


async def test_refused_upload() -> None:
    """A request that comes too soon with a body is refused, and its connection ends after the answer."""
    async with running(World(tight(client_requests_per_second=0.01, client_requests_burst=1))) as world:
        client = await world.connect()
        assert await served(client)
        await client.send(Form.HOST.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 9\r\n\r\n"))
        assert code(await client.message()) == (429, "GATEWAY::CLIENT_RATE_LIMITED")
        assert await client.until_end() == b""


NAMED = [
    b"X-Forwarded-For: %b\r\n",
    b"X-Forwarded-For: 198.51.100.7, %b\r\n",
    b"X-Forwarded-For: %b:4711\r\n",
    b"Forwarded: for=%b;proto=https\r\n",
    b'Forwarded: for=198.51.100.7, Proto=https;For="%b:4711"\r\n',
]


@pytest.mark.parametrize("line", NAMED)
async def test_requests_behind_a_trusted_proxy(line: bytes) -> None:
    """Requests that a trusted proxy passes on count for the client it names, and its own for nobody."""
    limits = tight(client_requests_per_second=0.01, client_requests_burst=1)
    async with running(World(limits, trusted=PROXY)) as world:
        client = await world.connect()
        asked = [line % b"203.0.113.1", line % b"203.0.113.2", line % b"203.0.113.1", b"", b""]
        answers = [await client.ask(Form.HOST.write(GET % lines)) for lines in asked]
        assert [answer.status for answer in answers] == [200, 200, 429, 200, 200]


async def test_a_client_names_another() -> None:
    """What a client says of itself changes nothing: it is counted by where it comes from."""
    async with running(World(tight(client_requests_per_second=0.01, client_requests_burst=1))) as world:
        client = await world.connect()
        answers = [await client.ask(Form.HOST.write(GET % (line % b"203.0.113.%d" % 1))) for line in NAMED[:2]]
        assert [answer.status for answer in answers] == [200, 429]


async def test_nothing_is_counted_by_default() -> None:
    """Without a rate requests are not looked at, and no address is remembered."""
    async with running(World()) as world:
        client = await world.connect()
        assert [await served(client) for _ in range(50)] == [True] * 50
        assert not world.gateway._plane.callers.counts_requests
