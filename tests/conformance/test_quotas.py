"""Limits that the owner of a sandbox has set, as clients meet them."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.access.quotas import QuotaRules
from tests.conformance.address import Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import World
from tests.conformance.wire import Message, Peer, Reply

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
RATE = 1 << 20
BODY = bytes(range(256)) * 4096 * 2
SECONDS = 60


async def ask(world: World, raw: bytes) -> tuple[int, str]:
    client = await world.connect()
    return told(await client.ask(raw))


def told(answer: Message) -> tuple[int, str]:
    return answer.status, "" if answer.status == 200 else str(json.loads(answer.body)["code"])


REFUSED = [
    (QuotaRules(ports=((1, 80), (9000, 9100))), b"GET", b"/x", (403, "GATEWAY::PORT_NOT_ALLOWED")),
    (QuotaRules(ports=((8000, 8080),)), b"GET", b"/x", (200, "")),
    (QuotaRules(methods=frozenset({b"GET"})), b"POST", b"/x", (403, "GATEWAY::METHOD_NOT_ALLOWED")),
    (QuotaRules(methods=frozenset({b"GET"})), b"GET", b"/x", (200, "")),
    (QuotaRules(paths=(b"/api",)), b"GET", b"/x", (403, "GATEWAY::PATH_NOT_ALLOWED")),
    (QuotaRules(paths=(b"/api",)), b"GET", b"/api/../x", (403, "GATEWAY::PATH_NOT_ALLOWED")),
    (QuotaRules(paths=(b"/api",)), b"GET", b"/api%2f..%2fx", (403, "GATEWAY::PATH_NOT_ALLOWED")),
    (QuotaRules(paths=(b"/api",)), b"GET", b"/api/x?y", (200, "")),
]


@in_each_form
@pytest.mark.parametrize(("rules", "method", "target", "expected"), REFUSED)
async def test_allowed(
    world: World, form: Form, rules: QuotaRules, method: bytes, target: bytes, expected: tuple[int, str]
) -> None:
    """Ports, methods and paths that the owner does not allow are refused with their code."""
    world.put(rules=rules)
    assert await ask(world, form.write(method + b" {path}%b HTTP/1.1\r\n{host}\r\n\r\n" % target)) == expected
    assert len(world.backend.seen) == (expected[0] == 200)


@in_each_form
async def test_credential_first(world: World, form: Form) -> None:
    """Who may not enter does not learn the limits."""
    world.put(token=b"token", rules=QuotaRules(methods=frozenset({b"POST"})))
    assert (await ask(world, form.write(GET)))[0] == 401


@in_each_form
async def test_rate(world: World, form: Form) -> None:
    """Requests beyond the burst are told when to come back, and the connection goes on."""
    world.put(rules=QuotaRules(requests_per_second=0.01, requests_burst=3))
    client = await world.connect()
    answers = [await client.ask(form.write(GET)) for _ in range(5)]
    assert [told(answer) for answer in answers] == [(200, "")] * 3 + [(429, "GATEWAY::RATE_LIMITED")] * 2
    assert int(answers[-1].one(b"retry-after") or b"0") > 1


@in_each_form
async def test_rate_of_another_sandbox(world: World, form: Form) -> None:
    """One sandbox's limit is none of another's."""
    world.put(rules=QuotaRules(requests_per_second=0.01, requests_burst=1))
    world.put("other")
    assert [(await ask(world, form.write(GET)))[0] for _ in range(2)] == [200, 429]
    assert [(await ask(world, form.write(GET, id="other")))[0] for _ in range(2)] == [200, 200]


@in_each_form
async def test_update_keeps_the_count(world: World, form: Form) -> None:
    """Telling the same rules again does not fill the bucket; other rules count anew."""
    rules = QuotaRules(requests_per_second=0.01, requests_burst=1)
    world.put(rules=rules)
    await ask(world, form.write(GET))
    world.put(rules=rules)
    assert (await ask(world, form.write(GET)))[0] == 429
    world.put()
    assert (await ask(world, form.write(GET)))[0] == 200


@in_each_form
async def test_connections(world: World, form: Form) -> None:
    """Only so many requests and tunnels are open at once."""

    async def hold(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await peer.until_end()

    world.backend.play = hold
    world.put(rules=QuotaRules(connections=2))
    for _ in range(2):
        client = await world.connect()
        await client.send(form.write(GET))
        await client.message(body=False)
    assert await ask(world, form.write(GET)) == (429, "GATEWAY::TOO_MANY_REQUESTS")


@in_each_form
@pytest.mark.parametrize("chunked", [False, True])
async def test_body(world: World, form: Form, chunked: bool) -> None:
    """A body that is, or grows, too large is refused and never complete for the sandbox."""
    world.put(rules=QuotaRules(body_bytes=100))
    line = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 101"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (101, b"x" * 101) if chunked else b"x" * 101
    raw = form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n\r\n" % line) + body
    assert await ask(world, raw) == (413, "GATEWAY::BODY_TOO_LARGE")
    assert all(not message.complete for message in world.backend.seen)


@in_each_form
async def test_body_of_the_limit(world: World, form: Form) -> None:
    """A body of exactly the limit passes."""
    world.put(rules=QuotaRules(body_bytes=100))
    raw = form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 100\r\n\r\n") + b"x" * 100
    assert (await ask(world, raw))[0] == 200


async def test_speed_of_a_download(world: World) -> None:
    """An answer arrives whole, and no faster than the owner allows."""
    world.put(rules=QuotaRules(bytes_per_second=RATE))
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
    client = await world.connect()
    started = asyncio.get_running_loop().time()
    assert (await client.ask(Form.HOST.write(GET))).body == BODY
    assert asyncio.get_running_loop().time() - started >= (len(BODY) - RATE) / RATE / 2


async def test_speed_of_an_upload(world: World) -> None:
    """A body arrives whole, and no faster than the owner allows."""
    world.put(rules=QuotaRules(bytes_per_second=RATE))
    client = await world.connect()
    started = asyncio.get_running_loop().time()
    raw = Form.HOST.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    assert (await client.ask(raw + BODY)).status == 200
    assert world.backend.seen[0].body == BODY
    assert asyncio.get_running_loop().time() - started >= (len(BODY) - RATE) / RATE / 2


@in_each_form
async def test_life_of_a_stream(world: World, form: Form) -> None:
    """A stream that has lasted as long as the owner allows is cut, visibly."""

    async def stream(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await peer.until_end()

    world.backend.play = stream
    world.put(rules=QuotaRules(stream_seconds=SECONDS))
    client = await world.connect()
    await client.send(form.write(GET))
    await client.message(body=False)
    world.pass_time(SECONDS / 2)
    assert await client.take(10) == b"5\r\nhello\r\n"
    world.pass_time(SECONDS + 2)
    assert await client.until_end() == b""
