"""Messages that are almost HTTP, for the property tests and the fuzzers; and what h11 makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11
from hypothesis import strategies as st

from tests.gateway.harness import ADDRESS

METHODS = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"BREW",
    b"G@T",
]
TARGETS = [
    b"/",
    b"/x?a=b&c",
    b"/%2F/..//;",
    b"/a#b",
    b"*",
    b"http://x/y",
    b"http://y/z",
    b"x:80",
    b"/\x7f",
    b"/\xe9",
    b"",
]
VERSIONS = [b"HTTP/1.1"] * 8 + [
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"RTSP/1.0",
    b"HTTP/1.10",
    b"",
]
LINE_ENDS = [b"\r\n"] * 200 + [b"\n", b"\r", b"\r\r\n", b" \r\n", b"\x00\r\n", b"\r\n "]
FIELDS = [
    ADDRESS.removesuffix(b"\r\n"),
    b"OpenSandbox-Ingress-To: other-80",
    b"Host: x",
    b"Host: y",
    b"Host:",
    b"Host: x ",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"content-length:5\t",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:\tCHUNKED ",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: xchunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade",
    b"Connection: x-secret, close",
    b"Connection: content-length",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: other",
    b"TE: trailers",
    b"Trailer: X",
    b"X-Request-ID: abc",
    b"X-Forwarded-For: 6.6.6.6",
    b"Authorization: Bearer x",
    b"X-Secret: a",
    b"X-\xe9: a",
    b"X: \xe9\xff",
    b"X: a\x01b",
    b"X: a\x7fb",
    b"X: ",
    b": empty",
    b"no colon",
    b" folded",
    b"X" * 300 + b": " + b"y" * 300,
]
GOOD = [
    b"content-length:5\t",
    b"transfer-encoding:\tCHUNKED ",
    b"Connection: keep-alive",
    b"Connection: x-secret",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"X: \xe9\xff",
]
BODIES = [
    b"",
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"05\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"5\nhello\n0\n\n",
    b"0\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"5\r\nhelloX0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
]
ESSENTIAL = [b"Host: x", ADDRESS.removesuffix(b"\r\n")]

ends = st.sampled_from(LINE_ENDS)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A request head that is nearly right."""
    line = draw(st.sampled_from(METHODS[:6] * 5 + METHODS)), draw(st.sampled_from(TARGETS[:4] * 6 + TARGETS))
    fields = draw(st.permutations(ESSENTIAL + draw(st.lists(st.sampled_from(GOOD * 3 + FIELDS), max_size=3))))
    if not draw(st.integers(0, 20)):
        fields.pop()
    start = b"%b %b %b" % (*line, draw(st.sampled_from(VERSIONS)))
    return start + b"".join(draw(ends) + field for field in fields) + b"\r\n" + draw(ends)


@st.composite
def mutated(draw: st.DrawFn, strategy: st.SearchStrategy[bytes]) -> bytes:
    """The same with, sometimes, a few bytes changed anywhere."""
    data = draw(strategy)
    for at, size, new in draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(max_size=2)), max_size=2)
    ):
        at %= len(data) + 1
        data = data[:at] + new + data[at + size :]
    return data


requests = st.builds(bytes.__add__, heads(), st.sampled_from(BODIES))
pipelines = mutated(st.lists(requests, min_size=1, max_size=3).map(b"".join))


ABOUT_FRAMING = re.compile("Content-Length|Transfer-Encoding")
"""What h11 says of fields that frame a message where they frame nothing: in trailers. The gateway drops them."""


@dataclass(frozen=True)
class Request:
    """What h11 sees in one request."""

    method: bytes
    target: bytes
    body: bytes
    version: bytes


class Server:
    """h11 at the receiving end of a connection: answers `200` to every whole request."""

    def __init__(self) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._head: h11.Request | None = None
        self._body = b""
        self.seen: list[Request] = []
        self.refused: h11.RemoteProtocolError | None = None

    @property
    def idle(self) -> bool:
        """Whether the bytes so far end where a request ends."""
        return self._parser.their_state is h11.IDLE and not self._parser.trailing_data[0]

    def receive(self, data: bytes) -> bytes:
        """The answers to the requests that have become whole with these bytes."""
        parser, answers = self._parser, b""
        parser.receive_data(data)
        while parser.their_state not in (h11.CLOSED, h11.MUST_CLOSE, h11.ERROR):
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                self.refused = error
                if self._head is not None and ABOUT_FRAMING.search(str(error)):
                    self.seen.append(Request(self._head.method, self._head.target, self._body, self._head.http_version))
                break
            if isinstance(event, h11.Request):
                self._head, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                answers += self._answer()
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                break
        return answers

    def _answer(self) -> bytes:
        head, self._head = self._head, None
        assert head is not None
        self.seen.append(Request(head.method, head.target, self._body, head.http_version))
        status = 405 if head.method == b"CONNECT" else 200  # h11 would take 200 for the beginning of a tunnel
        answer = self._parser.send(h11.Response(status_code=status, headers=[("content-length", "2")])) or b""
        if head.method != b"HEAD":
            answer += self._parser.send(h11.Data(data=b"ok")) or b""
        answer += self._parser.send(h11.EndOfMessage()) or b""
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        return answer


def read_by_h11(data: bytes) -> Server:
    """What h11 makes of the bytes of a client; empty lines in front are no part of a request."""
    server = Server()
    while data.startswith(b"\r\n"):
        data = data[2:]
    server.receive(data)
    return server
