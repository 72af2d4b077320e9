"""The access log: one line per exchange, with what an operator needs and nothing that lets somebody in."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway.access.credentials import AccessRule, Keyring
from gateway.addressing.routing import format_path
from gateway.proxy.access_log import AccessLog
from gateway.signing import sign
from gateway.table import SandboxRoute
from gateway.upstream.targets import Targets
from tests.gateway.harness import ADDRESS, World

GET = b"GET /x?token=secret HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"X-Request-ID: abc\r\nAuthorization: secret\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: secret\r\n\r\nok"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was logged, each line taken apart."""
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "gateway.access"]


def served(caplog: pytest.LogCaptureFixture, raw: bytes, answer: bytes = OK, sample: float = 1.0) -> World:
    """An exchange with the log on."""
    caplog.set_level(logging.INFO, "gateway.access")
    world = World()
    world.plane.access_log = AccessLog(sample)
    sandbox, client = world.stock(), world.connect()
    client.arrive(raw)
    if sandbox.sent:
        sandbox.arrive(answer)
    client.lose()
    return world


def test_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """What was asked of which sandbox, by whom, and what came of it."""
    served(caplog, GET)
    (line,) = lines(caplog)
    assert line.pop("duration_ms") >= 0
    assert {**line, **EXPECTED} == line


EXPECTED = {
    "request_id": "abc",
    "client": "192.0.2.7",
    "method": "GET",
    "path": "/x",
    "form": "header",
    "sandbox": "abc",
    "port": 80,
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 2,
    "aborted": False,
}


def test_times(caplog: pytest.LogCaptureFixture) -> None:
    """How long the sandbox took to begin its answer is told apart from how long all of it took."""
    caplog.set_level(logging.INFO, "gateway.access")
    world = World()
    world.plane.access_log = AccessLog()
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET)
    world.pass_time(2.0)
    sandbox.arrive(OK[:-1])
    world.pass_time(3.0)
    sandbox.arrive(OK[-1:])
    (line,) = lines(caplog)
    assert (line["upstream_ms"], line["duration_ms"]) == (2000.0, 5000.0)


def test_a_tunnel(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that became a tunnel has one line, at its end, with everything that went through it."""
    caplog.set_level(logging.INFO, "gateway.access")
    world = World()
    world.plane.access_log = AccessLog()
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: any\r\n\r\n")
    sandbox.arrive(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
    client.arrive(b"12")
    sandbox.arrive(b"345")
    world.pass_time(60.0)
    assert lines(caplog) == []
    client.lose()
    (line,) = lines(caplog)
    assert {**line, **EXPECTED, "status": 101, "bytes_in": 2, "bytes_out": 3, "duration_ms": 60_000.0} == line


def test_nothing_was_answered(caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves before its answer begins has had none, whatever it was answered before."""
    caplog.set_level(logging.INFO, "gateway.access")
    world = World()
    world.plane.access_log = AccessLog()
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET)
    sandbox.arrive(OK)
    client.arrive(GET)
    client.lose()
    first, second = lines(caplog)
    assert (first["status"], first["aborted"]) == (200, False)
    assert (second["status"], second["aborted"], second["upstream_ms"]) == (0, True, None)


def test_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither queries nor credentials nor cookies are written down."""
    served(caplog, GET)
    assert "secret" not in caplog.text


def test_refused(caplog: pytest.LogCaptureFixture) -> None:
    """An answer of our own has its line too, with the id that its client was told."""
    served(caplog, GET.replace(b"abc-80", b"other-80"))
    (line,) = lines(caplog)
    assert (line["status"], line["request_id"], line["sandbox"]) == (404, "abc", "other")
    assert line["upstream_ms"] is None


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET /secret\r\n\r\n", 400, "GATEWAY::BAD_REQUEST"),
        (b"\x16\x03\x01secret\r\n\r\n", 400, "GATEWAY::BAD_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: secret\r\n\r\n", 400, "GATEWAY::BAD_REQUEST"),
        (b"GET /" + b"secret" * 4_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "GATEWAY::URI_TOO_LONG"),
        (b"SECRET / HTTP/1.1\r\nHost: x\r\n\r\n", 501, "GATEWAY::UNKNOWN_METHOD"),
        (b"GET /" + b"secret" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "GATEWAY::HEAD_TOO_LARGE"),
    ],
)
async def test_what_was_no_request(caplog: pytest.LogCaptureFixture, raw: bytes, status: int, code: str) -> None:
    """Who sent it and how it was refused, under the id that the client was told; never the bytes."""
    caplog.set_level(logging.INFO, "gateway.access")
    world = World()
    world.plane.access_log = AccessLog()
    client = world.connect()
    client.arrive(raw)
    await asyncio.sleep(0)  # a long head waits for its turn
    (line,) = lines(caplog)
    assert line.pop("request_id").encode() in client.sent
    assert line == {"client": "192.0.2.7", "status": status, "code": code}


def test_a_request_that_never_came_whole(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is cut off for being slow has a line; whoever only connects has none."""
    caplog.set_level(logging.INFO, "gateway.access")
    world = World()
    world.plane.access_log = AccessLog()
    for raw in (b"GET /secret HT", b""):
        client = world.connect()
        client.arrive(raw)
        world.pass_time(world.plane.limits.head_timeout + 5)
        client.lose()
    (line,) = lines(caplog)
    assert (line["status"], line["code"]) == (408, "GATEWAY::HEAD_TIMEOUT")


def test_aborted(caplog: pytest.LogCaptureFixture) -> None:
    """A client that left before the end is said to have."""
    served(caplog, GET, OK[:-1])
    (line,) = lines(caplog)
    assert (line["aborted"], line["bytes_out"]) == (True, 1)


def test_one_line_whatever_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes of a client cannot end a line and begin another."""
    served(caplog, GET.replace(b"X-Request-ID: abc", b'X-Request-ID: a"\xe9\\n{}'))
    (record,) = [record for record in caplog.records if record.name == "gateway.access"]
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()


def test_sample_of_none(caplog: pytest.LogCaptureFixture) -> None:
    """A sample of nothing is nothing."""
    served(caplog, GET, sample=0.0)
    assert lines(caplog) == []


def test_off(caplog: pytest.LogCaptureFixture) -> None:
    """Without a log nothing is written."""
    caplog.set_level(logging.DEBUG)
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(GET)
    sandbox.arrive(OK)
    assert caplog.records == []


@pytest.mark.parametrize("key", [b"secret-of-ours", b"another"])
def test_signature_is_a_secret(caplog: pytest.LogCaptureFixture, key: bytes) -> None:
    """A signed address lets in whoever has it: its signature is not written down, nor is one that did not fit."""
    caplog.set_level(logging.DEBUG)
    world = World()
    world.plane.access_log = AccessLog()
    world.plane.keyring = Keyring({b"k": b"secret-of-ours"})
    world.table.put(SandboxRoute("abc", "1", Targets("192.0.2.1"), access=AccessRule(b"token")))
    signature = sign("k", key, "abc", 80, 2**33)
    path = format_path("abc", 80, signature).encode()
    sandbox, client = world.stock(), world.connect()
    client.arrive(b"GET %b/x HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    if sandbox.sent:
        sandbox.arrive(OK)
    (line,) = lines(caplog)
    assert line["status"] == (200 if key == b"secret-of-ours" else 401)
    assert signature.value.decode() not in caplog.text


def test_hostile_bytes(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever bytes a request holds, its line is one line of printable ASCII that reads as JSON."""
    caplog.set_level(logging.INFO, "gateway.access")
    every_byte = bytes(range(256)).replace(b"?", b"") + "\u2028\u202e".encode()
    AccessLog().write(
        request_id=every_byte,
        peer=every_byte,
        method=every_byte,
        target=every_byte,
        form="host",
        sandbox=every_byte,
        port=80,
        status=200,
        bytes_in=0,
        bytes_out=0,
        seconds=0.0,
        upstream_seconds=None,
        aborted=False,
    )
    (record,) = caplog.records
    text = record.getMessage()
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["path"].encode("latin-1") == every_byte
