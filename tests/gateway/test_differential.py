"""Whatever we let through, h11 reads in the same way; whatever h11 calls no HTTP, we refuse."""

from __future__ import annotations

import re

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits import Limits
from tests.gateway.harness import Wire, World
from tests.gateway.messages import BODIES, ESSENTIAL, Server, heads, mutated, pipelines, read_by_h11

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ")
LIMITS = Limits(max_head_bytes=4096)


class Relay:
    """The gateway between bytes of a client and an h11 server, with each step noted."""

    def __init__(self) -> None:
        self.world = World(LIMITS)
        self.world.stock(8)
        self.client: Wire = self.world.connect()
        self.servers: dict[int, Server] = {}
        self.statuses: list[int] = []
        """Of our answers, in order; 200 are the server's."""

    def send(self, data: bytes) -> None:
        """Bytes of the client arrive, and everything that follows happens."""
        self.client.arrive(data)
        while self._step():
            self.client.settle()
        self.statuses += [int(status) for status in STATUS_LINE.findall(self.client.take())]

    def _step(self) -> bool:
        moved = False
        for number, wire in enumerate(self.world.dialled):
            if wire.sent:
                answers = self.servers.setdefault(number, Server()).receive(wire.take())
                if answers:
                    wire.arrive(answers)
                    moved = True
        return moved

    @property
    def seen(self) -> list[tuple[bytes, bytes]]:
        """Methods and bodies of the whole requests that came through."""
        return [(request.method, request.body) for server in self.servers.values() for request in server.seen]


def passed(data: bytes) -> Relay:
    relay = Relay()
    relay.send(data)
    return relay


def check(data: bytes) -> None:
    relay, direct = passed(data), read_by_h11(data)
    for server in relay.servers.values():
        assert server.refused is None, (server.refused, data)
    seen = iter(relay.seen)
    for number, status in enumerate(relay.statuses):
        if status == 200:
            assert number < len(direct.seen), f"h11 sees {len(direct.seen)} requests: {direct.refused}"
            expected = direct.seen[number]
            assert next(seen) == (expected.method, expected.body)
            if expected.version == b"1.0":
                return  # h11 ends a connection after it, where we go on when the client asks us to
    assert next(seen, None) is None


@settings(max_examples=400)
@given(pipelines)
def test_same_requests(data: bytes) -> None:
    """Each request that we let through is, in number, method and body, the one that h11 sees in the same bytes."""
    check(data)


@settings(max_examples=300)
@given(mutated(heads()))
def test_what_h11_refuses(head: bytes) -> None:
    """A head that h11 calls no HTTP never reaches a sandbox."""
    if read_by_h11(head).refused is not None:
        assert not passed(head).seen


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


def read_response(data: bytes, method: bytes, *, closed: bool) -> tuple[list[int], bytes, bool] | None:
    """Statuses, body and whether it was whole, as an h11 client reads it; None when h11 refuses it."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if closed:
        client.receive_data(b"")
    statuses, body = [], b""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                statuses.append(event.status_code)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return statuses, body, True
            else:
                return statuses, body, False
    except h11.RemoteProtocolError:
        return (statuses, body, False) if statuses and statuses[-1] >= 200 else None


@settings(max_examples=400)
@given(
    st.lists(responses(), min_size=1, max_size=2).map(b"".join) | mutated(responses()),
    st.sampled_from([b"GET", b"HEAD"]),
    st.lists(st.integers(0, 500), max_size=3),
)
def test_same_answer(data: bytes, method: bytes, cuts: list[int]) -> None:
    """An answer that reaches the client whole is, in status and body, the one that h11 sees in the sandbox's bytes."""
    world = World(LIMITS)
    sandbox, client = world.stock(), world.connect()
    client.arrive(b"%b / HTTP/1.1\r\n" % method + b"\r\n".join([*ESSENTIAL, b"", b""]))
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    sandbox.arrive(*(data[at:to] for at, to in zip([0, *places], [*places, len(data)], strict=True)))
    sandbox.end()
    ours = read_response(client.take(), method, closed=client.closing or client.ended)
    direct = read_response(data, method, closed=True)
    assert ours is not None, "the client gets no HTTP"
    if ours[2] and ours[0][-1] != 502:
        assert direct == ours
    if direct is None:
        assert not ours[2] or ours[0][-1] == 502
