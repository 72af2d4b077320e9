"""Whatever we let through, h11 reads in the same way; whatever h11 calls no HTTP, we refuse."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.messages import BODIES, heads, mutated, pipelines, read_by_h11
from tests.gateway.relay import check_answers, check_requests, passed


@settings(max_examples=400)
@given(pipelines, st.lists(st.integers(0, 999), max_size=4))
def test_same_requests(data: bytes, cuts: list[int]) -> None:
    """Each request that we let through is, in number, method and body, the one that h11 sees in the same bytes."""
    check_requests(data, cuts)


@settings(max_examples=300)
@given(mutated(heads()))
def test_what_h11_refuses(head: bytes) -> None:
    """A head that h11 calls no HTTP never reaches a sandbox; what stood before it may."""
    direct = read_by_h11(head)
    if direct.refused is not None:
        assert len(passed(head).seen) <= len(direct.seen)


RESPONSES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 404 ",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 None",
    b"HTTP/1.1 304 Same",
    b"HTTP/1.1 103 Early",
    b"HTTP/1.1 99 No",
    b"HTTP/1.1 2000 No",
    b"HTTP/1.1  200 OK",
    b"HTTP/2 200",
    b"ICY 200 OK",
]
RESPONSE_FIELDS = [
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 05",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: gzip, chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Set-Cookie: a=b",
    b"Set-Cookie: a=b",
    b"Upgrade: websocket",
    b"Trailer: X",
    b"X : y",
    b"X: \x00",
    b" folded",
    b"X: \xe9",
]


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    start = draw(st.sampled_from(RESPONSES[:4] * 4 + RESPONSES))
    fields = draw(st.lists(st.sampled_from(RESPONSE_FIELDS), max_size=3))
    body = draw(st.sampled_from(BODIES))
    return b"\r\n".join([start, *fields, b"", b""]) + body


@settings(max_examples=400)
@given(
    st.lists(responses(), min_size=1, max_size=2).map(b"".join) | mutated(responses()),
    st.sampled_from([b"GET", b"HEAD"]),
    st.lists(st.integers(0, 500), max_size=3),
)
def test_same_answer(data: bytes, method: bytes, cuts: list[int]) -> None:
    """An answer that reaches the client whole is, in status and body, the one that h11 sees in the sandbox's bytes."""
    check_answers(data, method, cuts)
