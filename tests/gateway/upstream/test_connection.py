"""One connection to a sandbox: where an answer ends, what its bytes may be, and what is said when it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, UpstreamInvalid
from gateway.http.response_head import ResponseHead
from gateway.limits import Limits
from gateway.upstream.connection import MAX_INTERIM, UpstreamConnection
from tests.gateway.harness import Wire, World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nok"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
NO_BODY = b"HTTP/1.1 204 No Content\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


class Recorder:
    """A sink that writes down what it is told."""

    def __init__(self, *, request_sent: bool = True) -> None:
        self.request_sent = request_sent
        self.events: list[str] = []
        self.body = b""
        self.trailers = b""
        self.error: GatewayError | None = None
        self.half_open = False

    def on_interim(self, response: ResponseHead) -> None:
        self.events.append(f"interim {response.status}")

    def on_switch(self, response: ResponseHead, data: bytes) -> None:
        self.events.append("switch")
        self.body += data

    def on_head(self, response: ResponseHead, body: bytes) -> None:
        self.events.append(f"head {response.status}")
        self.body += body

    def flush(self) -> None:
        """Nothing is held back here."""

    def on_data(self, data: bytes) -> None:
        assert data
        self.body += data

    def on_end(self, trailers: bytes) -> None:
        self.events.append("end")
        self.trailers = trailers

    def on_lost(self, error: GatewayError | None) -> None:
        self.events.append("lost")
        self.error = error

    def on_eof(self) -> bool:
        self.events.append("eof")
        return self.half_open

    def pause_upload(self) -> None:
        self.events.append("pause")

    def resume_upload(self) -> None:
        self.events.append("resume")


def asked(*, to_head: bool = False, request_sent: bool = True) -> tuple[World, UpstreamConnection, Wire, Recorder]:
    """A connection on which a request has just been sent."""
    world = World(Limits(max_head_bytes=2048))
    connection = world.upstream()
    sink = Recorder(request_sent=request_sent)
    connection.send(sink, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", to_head=to_head)
    return world, connection, world.dialled[-1], sink


@given(
    st.lists(st.sampled_from([OK, CHUNKED, EARLY + OK, NO_BODY]), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=6),
)
def test_every_split(answers: list[bytes], cuts: list[int]) -> None:
    """However the bytes of an answer come in, it is the same answer, and the connection serves the next."""
    world, connection, wire, _ = asked()
    for answer in answers:
        sink = Recorder()
        connection.send(sink, b"GET", to_head=False)
        places = sorted({cut % len(answer) for cut in cuts})
        wire.arrive(*(answer[at:to] for at, to in zip([0, *places], [*places, len(answer)], strict=True)))
        assert sink.events[-1] == "end"
        assert sink.body == (b"" if answer is NO_BODY else b"ok")
        assert world.pool.take(True) is connection


def test_trailers() -> None:
    """Trailers come with the end; what extensions said is gone."""
    _, _, wire, sink = asked()
    wire.arrive(CHUNKED)
    assert (sink.body, sink.trailers) == (b"ok", b"X: y\r\n")


@pytest.mark.parametrize("status", [b"200", b"404", b"500"])
def test_answer_to_head(status: bytes) -> None:
    """The answer to HEAD ends with its head, whatever length it names."""
    world, _, wire, sink = asked(to_head=True)
    wire.arrive(b"HTTP/1.1 %b X\r\nContent-Length: 100\r\n\r\n" % status)
    assert sink.events == [f"head {status.decode()}", "end"]
    assert len(world.pool) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"",
    ],
)
@pytest.mark.parametrize("ending", ["fin", "reset", "fin, then reset"])
def test_truncated(answer: bytes, ending: str) -> None:
    """An answer that its framing does not end is lost, however politely the connection ended."""
    world, _, wire, sink = asked()
    wire.arrive(answer)
    if ending != "reset":
        wire.end()
    wire.lose(ConnectionResetError() if ending != "fin" else None)
    assert (sink.events[-1], sink.events.count("lost"), sink.error) == ("lost", 1, None)
    assert len(world.pool) == 0


def test_until_close() -> None:
    """Without both lengths the end of the connection is the end of the answer, if it is an orderly one."""
    _, _, wire, sink = asked()
    wire.arrive(UNTIL_CLOSE)
    wire.end()
    wire.settle()
    assert (sink.events, sink.body) == (["head 200", "end"], b"ok")


def test_until_close_cut() -> None:
    """A reset is no orderly end."""
    _, _, wire, sink = asked()
    wire.arrive(UNTIL_CLOSE)
    wire.lose(ConnectionResetError())
    assert sink.events == ["head 200", "lost"]


def test_late_reset_after_the_end() -> None:
    """A sandbox that answers early, ends its stream and then resets over our unread upload has answered completely."""
    _, _, wire, sink = asked(request_sent=False)
    wire.arrive(UNTIL_CLOSE)
    wire.end()
    wire.lose(ConnectionResetError())
    assert sink.events == ["head 200", "end"]


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3000,
        b"HTTP/1.1 103 Early\r\n\r\n" * (MAX_INTERIM + 1),
    ],
)
def test_no_answer(answer: bytes) -> None:
    """Bytes that are no answer end the connection, and the sink hears whose fault it was."""
    world, _, wire, sink = asked()
    wire.arrive(answer + (b"" if answer.endswith(b"\r\n") or len(answer) > 3000 else b"\r\n\r\n"))
    assert (sink.events[-1], wire.aborted, len(world.pool)) == ("lost", True, 0)
    assert isinstance(sink.error, UpstreamInvalid)


@pytest.mark.parametrize(
    ("answer", "request_sent"),
    [
        (OK + b"more", True),
        (CHUNKED + b"more", True),
        (NO_BODY + b"more", True),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), True),
        (OK.replace(b"1.1", b"1.0"), True),
        (OK, False),
    ],
    ids=["surplus", "surplus after chunks", "surplus without body", "close", "1.0", "request not sent"],
)
def test_not_used_again(answer: bytes, request_sent: bool) -> None:
    """A connection whose next bytes cannot be trusted to be the next answer does not go back to the pool."""
    world, _, wire, sink = asked(request_sent=request_sent)
    wire.arrive(answer)
    assert (sink.events[-1], wire.closing, len(world.pool)) == ("end", True, 0)


def test_not_used_again_over_unsent_bytes() -> None:
    """Nor one that still holds bytes of this request: the next would wait behind them."""
    world, connection, wire, sink = asked()
    connection.pause_writing()
    wire.arrive(OK)
    assert (sink.events[-1], wire.closing, len(world.pool)) == ("end", True, 0)


def test_tunnel() -> None:
    """After 101 bytes are raw, also those beside it, and half a close is the tunnel's affair."""
    _, _, wire, sink = asked()
    sink.half_open = True
    wire.arrive(SWITCH + b"HTTP/1.1 ", b"whatever")
    wire.end()
    assert (sink.events, sink.body, wire.closing) == (["switch", "eof"], b"HTTP/1.1 whatever", False)


def test_silent() -> None:
    """A connection is silent until the first byte of an answer, an interim one included."""
    for first in (b"H", EARLY):
        _, connection, wire, _ = asked()
        assert connection.silent
        wire.arrive(first)
        assert not connection.silent


def test_same_head_twice() -> None:
    """An answer that repeats the last head to the byte is still an answer of its own."""
    world, connection, wire, _ = asked()
    for body, to_head in ((b"ok", False), (b"", True), (b"no", False)):
        sink = Recorder()
        connection.send(sink, b"GET", to_head=to_head)
        wire.arrive(OK[:-2] + body)
        assert (sink.events, sink.body) == (["head 200", "end"], body)
        world.pool.take(True)


def test_close_waits_for_unsent_bytes_while_they_go() -> None:
    """A closing connection is given time as long as the sandbox takes what is left, and dropped when it stops."""
    world = World()
    wire = world.stock()
    connection: UpstreamConnection = wire.protocol
    wire.unsent = 100
    connection.close()
    assert (wire.closing, wire.aborted) == (True, False)
    for left in (90, 80, 70):
        wire.unsent = left
        world.pass_time(10)
        assert not wire.aborted
    world.pass_time(10)
    assert wire.aborted
