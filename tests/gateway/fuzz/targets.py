"""What is fuzzed, and what has to hold for any bytes; a broken rule is an exception, which the fuzzer keeps."""

from __future__ import annotations

from collections.abc import Callable

from gateway.addressing.routing import Router, RoutingConfig
from gateway.errors import BadRequest, BadRoute
from gateway.http.framing import ChunkedDecoder
from gateway.proxy.tunnel import FrameCounter
from tests.gateway.messages import Server
from tests.gateway.relay import check_answers, check_requests, split

ROUTER = Router(
    RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.test", api_hosts=frozenset({b"api.sandbox.test"}))
)
CUT_BYTES = 4


def cut(data: bytes) -> tuple[bytes, list[int]]:
    """The bytes proper, and where they are cut on their way: the first bytes of the input say so."""
    return data[CUT_BYTES:], [byte * 3 for byte in data[:CUT_BYTES] if byte]


def client(data: bytes) -> None:
    """Bytes of a client, through the whole connection, with h11 as the server behind."""
    stream, cuts = cut(data)
    check_requests(stream, cuts)


def sandbox(data: bytes) -> None:
    """Bytes of a sandbox, through the whole connection, with h11 as the client in front."""
    stream, cuts = cut(data)
    check_answers(stream[1:], b"HEAD" if stream[:1] == b"H" else b"GET", cuts)


def chunked(data: bytes) -> None:
    """A chunked body: cut or not, it is the same body, and what we take for whole so does h11."""
    stream, cuts = cut(data)
    whole, parts = decode([stream]), decode(split(stream, cuts))
    if whole is None or not whole[3]:
        # In parts a fault may show earlier, but nothing incomplete ever becomes whole.
        assert parts is None or not parts[3]
        return
    assert parts == whole
    payload, _, rest, _ = whole
    server = Server()
    server.receive(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + stream[: len(stream) - len(rest)]
    )
    assert [request.body for request in server.seen] == [payload], server.refused


def decode(parts: list[bytes]) -> tuple[bytes, bytes, bytes, bool] | None:
    """Payload, trailers, rest and completeness; None when refused."""
    decoder, payload = ChunkedDecoder(), b""
    try:
        for at, part in enumerate(parts):
            payload += decoder.feed(part)
            if decoder.done:
                return payload, decoder.trailers, decoder.rest + b"".join(parts[at + 1 :]), True
    except BadRequest:
        return None
    return payload, b"", b"", False


def frames(data: bytes) -> None:
    """WebSocket frames: the counter agrees with a reader that looks at all the bytes at once."""
    stream, cuts = cut(data)
    counter, fed = FrameCounter(), 0
    for part in split(stream, cuts):
        counter.feed(part)
        fed += len(part)
        assert counter.at_boundary is at_frame_end(stream[:fed])


def at_frame_end(stream: bytes) -> bool:
    at = 0
    while at < len(stream):
        if len(stream) - at < 2:
            return False
        length, size = stream[at + 1] & 0x7F, 2
        if length >= 126:
            wide = 2 if length == 126 else 8
            length, size = int.from_bytes(stream[at + 2 : at + 2 + wide].ljust(wide, b"\xff"), "big"), 2 + wide
        at += size + length + (4 if stream[at + 1] & 0x80 else 0)
    return at == len(stream)


def router(data: bytes) -> None:
    """An address: what goes upstream is a suffix of what came, and ids and ports are what they may be."""
    target, _, rest = data.partition(b"\n")
    host, has_header, header = rest.partition(b"\n")
    target = b"/" + target
    try:
        route = ROUTER.route(target, host, header if has_header else None)
    except BadRoute:
        return
    if route is None:
        return
    assert 1 <= route.port <= 65535
    assert 1 <= len(route.id) <= 63
    assert b"/" not in route.id
    assert (route.prefix + route.target).replace(b"/", b"") == target.replace(b"/", b"")
    assert target.startswith(route.prefix)
    assert route.target.startswith(b"/")
    assert ROUTER.route(target, host, header if has_header else None) == route


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (client, sandbox, chunked, frames, router)
}
