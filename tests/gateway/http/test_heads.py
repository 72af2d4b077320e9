"""Heads: what is read from them does not depend on what was read before, and what travels on is whole lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.http.fields import filter_trailers
from gateway.http.framing import CHUNKED, UNTIL_CLOSE
from gateway.http.request_head import RequestHead, RequestReader, build_request, parse_request
from gateway.http.response_head import ResponseHead, ResponseReader, build_response, parse_response
from gateway.limits import Limits
from tests.gateway.messages import METHODS, TARGETS, heads, mutated

LIMITS = Limits(max_url_bytes=256)
GET = b"GET /x HTTP/1.1\r\nHost: x\r\n%b\r\n"
OK = b"HTTP/1.1 200 OK\r\n%b\r\n"


HISTORY = ("repeated", "address")
"""What a head says of the heads before it; `test_repeated` holds that to its rules."""


def request_facts(request: RequestHead) -> tuple[Any, ...]:
    """Everything that others read of a request head."""
    names = [name for name in RequestHead.__slots__ if not name.startswith("_") and name not in HISTORY]
    ours = request.passing(), request.passing_to_us()
    return (*(getattr(request, name) for name in names), *ours)


def response_facts(response: ResponseHead) -> tuple[Any, ...]:
    names = [name for name in ResponseHead.__slots__ if not name.startswith("_")]
    return (*(getattr(response, name) for name in names), build_response(response, b""))


def read(reader: RequestReader, head: bytes) -> tuple[Any, ...]:
    try:
        return request_facts(reader.read(head, LIMITS))
    except GatewayError as error:
        return (type(error),)


whole = mutated(heads()).map(lambda head: head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


@settings(max_examples=300)
@given(st.lists(whole, min_size=1, max_size=3), st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_one_reader_reads_like_many(variety: list[bytes], order: list[int]) -> None:
    """A reader that has read other heads, with or without error, reads the next one like a fresh one."""
    reader = RequestReader()
    for index in order:
        head = variety[index % len(variety)]
        assert read(reader, head) == read(RequestReader(), head)


start_lines = st.tuples(
    st.sampled_from(METHODS) | st.binary(min_size=1, max_size=3),
    st.sampled_from(TARGETS)
    | st.binary(max_size=6).map(lambda rest: b"/" + rest)
    | st.integers(250, 260).map(lambda size: b"/" * size),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.1 "]),
)


@settings(max_examples=300)
@given(st.lists(start_lines, max_size=6))
def test_same_block_other_line(starts: list[tuple[bytes, bytes, bytes]]) -> None:
    """The remembered header block lends its facts, never its request line: each line is judged by itself."""
    reader = RequestReader()
    for start in [(b"GET", b"/", b"HTTP/1.1"), *starts]:
        head = b" ".join(start) + b"\r\nHost: x\r\nX-Request-ID: a\r\n\r\n"
        head = head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert read(reader, head) == read(RequestReader(), head)


answers = st.builds(
    lambda start, fields: b"\r\n".join([start, *fields, b"", b""]),
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 X", b"HTTP/1.1 304 X", b"HTTP/1.1 42"]),
    st.lists(
        st.sampled_from([b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close", b"X: y", b"X : y"]),
        max_size=2,
    ),
)


def read_answer(reader: ResponseReader, head: bytes, to_head: bool) -> tuple[Any, ...]:
    try:
        return response_facts(reader.read(head, to_head=to_head))
    except GatewayError as error:
        return (type(error),)


@given(st.lists(answers, min_size=1, max_size=2), st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=6))
def test_one_response_reader_reads_like_many(variety: list[bytes], order: list[tuple[int, bool]]) -> None:
    """Likewise answers, where it also matters whether HEAD was asked."""
    reader = ResponseReader()
    for index, to_head in order:
        head = variety[index % len(variety)]
        assert read_answer(reader, head, to_head) == read_answer(ResponseReader(), head, to_head)


def test_other_additions_to_the_same_answer() -> None:
    """What is put behind a remembered answer is put anew."""
    reader, head = ResponseReader(), OK % b"X: y\r\n"
    for added in (b"", b"Connection: close\r\n", b"", b"Transfer-Encoding: chunked\r\n"):
        built = build_response(reader.read(head, to_head=False), added)
        assert built == OK % (b"X: y\r\n" + added)


lines = st.lists(
    st.sampled_from(
        [
            b"A: b",
            b"a:b",
            b"A:  b \t",
            b"X-Cookie: \xe9\xff",
            b"Cookie: a=b",
            b"Accept: */*",
            b"A: b",
            b"Empty:",
            b"~: !",
        ]
    ),
    max_size=8,
)


@given(lines)
def test_lines_travel_untouched(fields: list[bytes]) -> None:
    """Order, duplicates, case, white space and bytes of what passes are the sender's."""
    block = b"".join(field + b"\r\n" for field in fields)
    request = parse_request(GET % block, LIMITS)
    assert request.passing() == b"Host: x\r\n" + block
    assert build_response(parse_response(OK % block, to_head=False), b"") == OK % block


REMOVED = [
    b"Connection: close",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: x",
    b"Proxy-Authorization: x",
    b"TE: gzip",
    b"TE: x-trailers",
    b"TE: trailers;q=1",
    b"Upgrade: x",
    b"Transfer-Encoding: chunked",
    b"X-Forwarded-For: 6.6.6.6",
    b"Forwarded: for=6.6.6.6",
    b"X-Real-IP: 6.6.6.6",
    b"X-Gateway-Peer: 6.6.6.6",
    b"X-Gateway-Scheme: https",
    b"OpenSandbox-Ingress-To: a-1",
    b"OPEN-SANDBOX-INGRESS: a-1",
    b"OpenSandbox-Secure-Access: secret",
    b"OPEN-SANDBOX-API-KEY: secret",
]


@pytest.mark.parametrize("line", REMOVED, ids=lambda line: line.partition(b":")[0].decode())
@pytest.mark.parametrize("case", [bytes, bytes.lower, bytes.upper], ids=["as it is", "lower", "upper"])
def test_removed(line: bytes, case: Any) -> None:
    """Lines for this hop or for this platform end here, in any case, and take no other line with them."""
    name, _, value = line.partition(b":")
    request = parse_request(GET % (b"A: b\r\n" + case(name) + b":" + value + b"\r\nC: d\r\n"), LIMITS)
    assert request.passing() == b"Host: x\r\nA: b\r\nC: d\r\n"


@pytest.mark.parametrize("line", [b"TE: trailers", b"Expect: 100-continue", b"Authorization: x", b"X-Request-ID: a"])
def test_kept(line: bytes) -> None:
    """These look special and are the sandbox's all the same."""
    assert line in parse_request(GET % (line + b"\r\n"), LIMITS).passing()


@pytest.mark.parametrize("value", [b"trailers, gzip", b"gzip;q=0.5 ,\tTrailers", b"trailers,", b"a, trailers, b"])
def test_trailers_beside_codings(value: bytes) -> None:
    """A client may take trailers on every hop; which codings it takes is this hop's affair."""
    request = parse_request(GET % (b"A: b\r\nte: " + value + b"\r\nC: d\r\n"), LIMITS)
    assert request.passing() == b"Host: x\r\nA: b\r\nTE: trailers\r\nC: d\r\n"


def test_named_by_connection() -> None:
    """Whatever Connection names is for this hop (RFC 9110 §7.6.1), wherever it stands and however often."""
    block = b"X-A: 1\r\nConnection: x-a, X-B ,,\r\nX-B: 2\r\nx-a: 3\r\nX-C: 4\r\n"
    assert parse_request(GET % block, LIMITS).passing() == b"Host: x\r\nX-C: 4\r\n"


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"transfer-encoding", b"Expect", b"X-Request-ID"])
def test_not_to_be_named(name: bytes) -> None:
    """Fields that frame or route the message cannot be named away."""
    with pytest.raises(GatewayError):
        parse_request(GET % (b"Connection: " + name + b"\r\n"), LIMITS)


@pytest.mark.parametrize("name", [b"Content_Length", b"Transfer_Encoding", b"X_Forwarded_For", b"x-request_id"])
def test_underscore_twins(name: bytes) -> None:
    """A name that a CGI-like server would take for one of ours is refused."""
    with pytest.raises(GatewayError):
        parse_request(GET % (name + b": 5\r\n"), LIMITS)


def test_other_underscores() -> None:
    """Other names with underscores are nobody's business."""
    assert b"my_header: 1\r\n" in parse_request(GET % b"my_header: 1\r\n", LIMITS).passing()


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"Content-Length: 5 \t", "length", 5),
        (b"Transfer-Encoding: chunked ", "length", CHUNKED),
        (b"X-Request-ID: \t a b ", "request_id", b"a b"),
        (b"X-Request-ID: " + b"a" * 129, "request_id", None),
        (b"X-Request-ID:", "request_id", None),
        (b"OpenSandbox-Access-Renew: skip", "skips_renewal", True),
        (b"OpenSandbox-Secure-Access: t ", "token", b"t"),
    ],
)
def test_values(line: bytes, name: str, value: object) -> None:
    """White space around a value is no part of it (RFC 9112 §5)."""
    assert getattr(parse_request(GET % (line + b"\r\n"), LIMITS), name) == value


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (OK % b"Content-Length: 5\r\n", 5),
        (OK % b"Transfer-Encoding: chunked\r\n", CHUNKED),
        (OK % b"", UNTIL_CLOSE),
        (b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", 0),
        (b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", 0),
        (b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
        (b"HTTP/1.1 103 X\r\n\r\n", 0),
    ],
)
def test_length_of_answers(head: bytes, length: int) -> None:
    """How long the body of an answer is (RFC 9112 §6.3)."""
    assert parse_response(head, to_head=False).length == length


@pytest.mark.parametrize(("status", "named"), [(b"200", True), (b"304", True), (b"204", False), (b"103", False)])
def test_length_line_of_answers(status: bytes, named: bool) -> None:
    """Answers that cannot have a body do not name a length to the client (RFC 9110 §8.6); 304 names the other one's."""
    head = b"HTTP/1.1 %b X\r\nContent-Length: 5\r\n\r\n" % status
    assert (b"Content-Length" in build_response(parse_response(head, to_head=False), b"")) is named


def test_request_is_written_anew() -> None:
    """The head that goes upstream is HTTP/1.1 with our lines last, whatever version the client spoke."""
    request = parse_request(b"POST /x HTTP/1.0\r\nHost: x\r\nContent-Length: 5\r\n\r\n", LIMITS)
    built = build_request(request, b"/y", request.passing(), b"A: b\r\n")
    assert built.startswith(b"POST /y HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: b\r\n")


@pytest.mark.parametrize(
    ("trailers", "kept"),
    [
        (b"", b""),
        (b"X: y\r\nServer-Timing: a\r\n", b"X: y\r\nServer-Timing: a\r\n"),
        (b"Content-Length: 5\r\nX: y\r\n", b"X: y\r\n"),
        (b"content_length: 5\r\nHOST: x\r\nAuthorization: x\r\n", b""),
        (b"OpenSandbox-Secure-Access: x\r\nSet-Cookie: a\r\n", b""),
    ],
)
def test_trailers(trailers: bytes, kept: bytes) -> None:
    """Trailers may add facts about the content, never about framing, routing or credentials."""
    assert filter_trailers(trailers) == kept
