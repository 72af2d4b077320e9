"""What only raw bytes can say, through the gateway to the whole server: answers are envelopes, or none is owed."""

from __future__ import annotations

import gzip
import logging
import re
import socket
from collections.abc import Iterator

import pytest

from manager.api.body import MAX_BODY_BYTES
from tests.manager.served import Served, serve

KEY = "the-key-of-tests"
HEAD = b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
CREDENTIAL = b"OPEN-SANDBOX-API-KEY: " + KEY.encode() + b"\r\n"
EXPECTING = b"Expect: 100-continue\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PATIENCE = 10.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key, for all of this file."""
    with serve(tmp_path_factory.mktemp("hostile"), server={"api_key": KEY}) as server:
        yield server


def connect(served: Served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def ask(served: Served, request: bytes) -> bytes:
    """Everything that is answered until the connection ends."""
    with connect(served) as client, client.makefile("rb") as stream:
        client.sendall(request)
        return stream.read()


def sized(body: bytes, *lines: bytes) -> bytes:
    return HEAD + CREDENTIAL + b"".join(lines) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def assert_refused(answer: bytes, status: int, code: bytes) -> None:
    """The envelope with its request id, and nothing of how it came about."""
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert re.search(rb'{"code": ?"%b"' % code, answer), answer
    assert b"X-Request-ID: " in answer
    assert b"Content-Type: application/json" in answer


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"zstd", b"nonsense"])
@pytest.mark.parametrize("body", [b"{}", b"\x1f\x8bnot really", gzip.compress(b" " * 4 * MAX_BODY_BYTES)])
def test_bodies_that_are_packed(served: Served, coding: bytes, body: bytes) -> None:
    """Nobody needs that for a few kilobytes: 400 naming the header, and nothing is unpacked."""
    answer = ask(served, sized(body, b"Content-Encoding: %b\r\n" % coding))
    assert_refused(answer, 400, b"SANDBOX::INVALID_PARAMETER")
    assert b"Content-Encoding" in answer


def test_a_body_that_is_waited_for(served: Served) -> None:
    """A client that asks first is told to go on, then answered."""
    with connect(served) as client, client.makefile("rb") as stream:
        client.sendall(HEAD + CREDENTIAL + EXPECTING + b"Content-Length: 2\r\n\r\n")
        assert stream.read(len(CONTINUE)) == CONTINUE
        client.sendall(b"[]")
        assert_refused(stream.read(), 400, b"SANDBOX::INVALID_PARAMETER")


@pytest.mark.parametrize(
    ("credential", "size", "status", "code"),
    [(b"", 2, 401, b"MISSING_API_KEY"), (CREDENTIAL, 10 * MAX_BODY_BYTES, 413, b"SERVER::BODY_TOO_LARGE")],
)
def test_a_body_that_is_not_wanted(served: Served, credential: bytes, size: int, status: int, code: bytes) -> None:
    """A client that asks first is not made to send what is refused anyway."""
    answer = ask(served, HEAD + credential + EXPECTING + b"Content-Length: %d\r\n\r\n" % size)
    assert_refused(answer, status, code)


@pytest.mark.parametrize(
    "name", [b"Content-Type", b"user-agent", b"ETag", b"Max-Forwards", b"SERVER", b"Content-Range"]
)
def test_lines_that_may_be_there_once(served: Served, name: bytes) -> None:
    """400 that names it, in our own words, for whoever looks and for whoever creates."""
    twice = CREDENTIAL + b"%b: application/json\r\n" % name * 2
    for head in (HEAD, b"GET /v1/sandboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"):
        answer = ask(served, head + twice + b"Content-Length: 2\r\n\r\n[]")
        assert_refused(answer, 400, b"GATEWAY::BAD_REQUEST")
        assert name.lower() in answer
        assert b"aiohttp" not in answer


@pytest.mark.parametrize(
    "name", [b"Content-Type", b"Content-Encoding", b"Idempotency-Key", b"Authorization", b"Cookie"]
)
def test_headers_that_are_no_text(served: Served, name: bytes) -> None:
    """Bytes that are no Unicode are a bad value like any other, also where the refusal repeats them."""
    lines = b"Content-Type: application/json\r\n" if name != b"Content-Type" else b""
    head = b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + CREDENTIAL + lines
    answer = ask(served, head + b"%b: \xff\xfe\xed\xa0\x80\r\nContent-Length: 2\r\n\r\n{}" % name)
    assert_refused(answer, 400, b"SANDBOX::INVALID_PARAMETER")


@pytest.mark.parametrize("name", [b"Origin", b"Prefer", b"If-None-Match", b"Access-Control-Request-Headers", b"Accept"])
def test_headers_that_are_no_text_and_matter_little(served: Served, name: bytes) -> None:
    """Whoever only looks is answered, or refused in the envelope."""
    lines = CREDENTIAL + b"%b: \xff\xfe\r\n" % name
    answer = ask(served, b"GET /v1/sandboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n")
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert b"X-Request-ID: " in answer
    preflight = (
        b"OPTIONS /v1/sandboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccess-Control-Request-Method: GET\r\n"
    )
    origin = b"" if name == b"Origin" else b"Origin: http://x\r\n"
    assert ask(served, preflight + origin + lines + b"\r\n").startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 403 "))


def test_as_many_lines_as_the_gateway_takes(served: Served) -> None:
    """What the gateway lets through the API reads, or there would be two limits."""
    most = served.house.services.settings.gateway.limits.max_headers
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(most - 3))
    answer = ask(served, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


HALF_BODIES = [
    b"Content-Length: 100\r\n\r\n{",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"Content-Length: 9\r\n\r\n",
]


@pytest.mark.parametrize("rest", HALF_BODIES)
def test_clients_that_leave_in_the_middle(served: Served, caplog: pytest.LogCaptureFixture, rest: bytes) -> None:
    """Nothing is made of half a body, and a line with a trace is not written for it."""
    with connect(served) as client:
        client.sendall(HEAD + CREDENTIAL + rest)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass
    assert ask(served, sized(b"[]")).startswith(b"HTTP/1.1 400 ")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert served.house.runtime.calls["create"] == 0


@pytest.mark.parametrize("sent", [b"\xff", b"a" * 129, b"caf\xc3\xa9"])
def test_request_ids_that_are_none(served: Served, sent: bytes) -> None:
    """What cannot stand in every log gets an id of ours, and is not repeated."""
    answer = ask(served, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: %b\r\nConnection: close\r\n\r\n" % sent)
    assert answer.startswith(b"HTTP/1.1 200 ")
    given = answer.partition(b"X-Request-ID: ")[2].partition(b"\r\n")[0]
    assert len(given) == 32
    assert int(given, 16)
