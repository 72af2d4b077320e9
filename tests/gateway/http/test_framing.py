"""How messages are delimited, against every split and every mutation."""

from __future__ import annotations

import string

import h11
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.http import framing
from gateway.http.framing import (
    CHUNKED,
    LAST_CHUNK,
    MAX_CHUNK_LINE,
    MAX_TRAILER_BYTES,
    ChunkedDecoder,
    body_length,
    chunk,
    content_length,
    is_host,
    known_hosts,
    last_chunk,
    refuse_partial,
)

LENGTH_5 = [b"5"]
NONE: list[bytes] = []
EXTENSIONS = [b"", b";a", b";a=b", b';a="q r"', b";a;b=c"]
REFUSED = None


@pytest.mark.parametrize(
    ("lengths", "codings", "minor", "result"),
    [
        (NONE, NONE, 1, None),
        (LENGTH_5, NONE, 1, 5),
        (LENGTH_5, NONE, 0, 5),
        ([b"0"], NONE, 1, 0),
        ([b"9" * 18], NONE, 1, 10**18 - 1),
        (NONE, [b"chunked"], 1, CHUNKED),
        (NONE, [b"cHuNkEd"], 1, CHUNKED),
    ],
)
def test_accepted(lengths: list[bytes], codings: list[bytes], minor: int, result: int | None) -> None:
    """The few forms that mean one thing."""
    assert body_length(lengths, codings, minor) == result


@pytest.mark.parametrize(
    ("lengths", "codings", "minor"),
    [
        (LENGTH_5, [b"chunked"], 1),
        ([b"5", b"5"], NONE, 1),
        ([b"5", b"6"], NONE, 1),
        (NONE, [b"chunked", b"chunked"], 1),
        (NONE, [b"gzip", b"chunked"], 1),
        (NONE, [b"chunked"], 0),
        *((NONE, [coding], 1) for coding in (b"", b"gzip", b"identity", b"gzip, chunked", b"chunked,", b"x-chunked")),
        *((NONE, [coding], 1) for coding in (b"chunked;q=1", b'"chunked"', b"chunked\x0b", b"\x0bchunked", b"chunke")),
        *(([length], NONE, 1) for length in (b"", b"+5", b"-5", b"5,5", b"5 5", b"0x5", b"5.0", b"5_0", b"1" * 19)),
        *(([length], NONE, 1) for length in (b"05", b"00", "٣".encode(), b"5\x00", b"\xb2", b"5;")),
    ],
)
def test_refused(lengths: list[bytes], codings: list[bytes], minor: int) -> None:
    """Everything that two parsers could read differently."""
    with pytest.raises(BadRequest):
        body_length(lengths, codings, minor)


@given(st.integers(0, 10**18 - 1))
def test_every_number(number: int) -> None:
    """A plain number means itself."""
    assert content_length(b"%d" % number) == number


@given(st.binary(max_size=6))
def test_no_other_number(value: bytes) -> None:
    """Whatever is no plain number is refused, also where Python's own `int` would take it."""
    plain = value.isdigit() and (value == b"0" or value[:1] != b"0")
    if plain:
        assert content_length(value) == int(value)
    else:
        with pytest.raises(BadRequest):
            content_length(value)


names = st.text("abcXYZ-09", min_size=1, max_size=8).map(str.encode)
values = st.text("abc =;/\t", max_size=8).map(str.strip).map(str.encode)
trailer_lines = st.lists(st.builds(b"%b: %b\r\n".__mod__, st.tuples(names, values)), max_size=3).map(b"".join)
pieces = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(EXTENSIONS)), max_size=4)


def on_the_wire(parts: list[tuple[bytes, bytes]], trailers: bytes) -> bytes:
    """A chunked body as a sender writes it."""
    chunks = b"".join(b"%X%b\r\n%b\r\n" % (len(payload), extension, payload) for payload, extension in parts)
    return chunks + last_chunk(trailers)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in parts, cut at these places."""
    places = sorted({place % (len(data) + 1) for place in at})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]


def decode(parts: list[bytes]) -> tuple[bytes, bytes, bytes, bool]:
    """Payload, trailers, rest and whether it was complete, from a body that comes in these parts."""
    decoder, payload = ChunkedDecoder(), b""
    for at, part in enumerate(parts):
        payload += decoder.feed(part)
        if decoder.done:
            return payload, decoder.trailers, decoder.rest + b"".join(parts[at + 1 :]), True
    return payload, b"", b"", False


@given(pieces, trailer_lines, st.binary(max_size=10), st.lists(st.integers(0, 999), max_size=8))
def test_every_split(parts: list[tuple[bytes, bytes]], trailers: bytes, rest: bytes, cuts: list[int]) -> None:
    """However a body is cut on its way, the same payload, trailers and rest come out."""
    data = on_the_wire(parts, trailers) + rest
    assert decode(cut(data, cuts)) == (b"".join(payload for payload, _ in parts), trailers, rest, True)


def test_byte_by_byte() -> None:
    """A body that comes one byte at a time."""
    data = on_the_wire([(b"hello", b";a=b"), (b"\r\n0\r\n\r\n", b"")], b"X: y\r\n")
    assert decode([data[at : at + 1] for at in range(len(data))]) == (b"hello\r\n0\r\n\r\n", b"X: y\r\n", b"", True)


@given(pieces)
def test_chunk_by_chunk(parts: list[tuple[bytes, bytes]]) -> None:
    """Each read brings one chunk, as the reads of an event stream do."""
    decoder = ChunkedDecoder()
    assert [decoder.feed(on_the_wire([part], b"")[:-5]) for part in parts] == [payload for payload, _ in parts]
    assert not decoder.done
    assert decoder.feed(last_chunk(b"")) == b""
    assert decoder.done


def test_what_is_learned_of_sizes_has_a_bound() -> None:
    """However many sizes a sandbox spells, in however many ways."""
    decoder = ChunkedDecoder()
    for number in range(1, 10_000):
        decoder.feed(b"%08x\r\n%b\r\n" % (number, bytes(number)))
    assert len(framing._size_lines) <= framing._REMEMBERED_SIZES


@given(pieces, st.integers(0, 200))
def test_truncation_shows(parts: list[tuple[bytes, bytes]], missing: int) -> None:
    """A body without its end is never taken for complete."""
    data = on_the_wire(parts, b"")
    assert decode([data[: len(data) - 1 - missing % len(data)]])[3] is False


@given(st.binary(min_size=1, max_size=50))
def test_what_we_write_we_read(payload: bytes) -> None:
    """A chunk of ours is one chunk to any decoder."""
    assert decode([chunk(payload) + LAST_CHUNK]) == (payload, b"", b"", True)
    assert h11_decode(chunk(payload) + LAST_CHUNK) == (payload, b"")


def h11_decode(body: bytes) -> tuple[bytes, bytes] | None:
    """Payload and rest as h11 sees them, or None when it refuses the body or waits for more of it."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    payload = b""
    try:
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Data):
                payload += event.data
    except h11.RemoteProtocolError:
        return None
    return payload, server.trailing_data[0]


SIZE_LINES = [b"5", b"05", b"5;a=b", b'5;a="q"', b"000000000005", b"A"]


@given(st.sampled_from(SIZE_LINES), st.integers(0, 12), st.binary(max_size=3), st.integers(0, 2))
@example(b"5", 0, b"+", 0)
@example(b"5", 1, b" ", 0)
@example(b"5", 1, b"\n", 0)
@example(b"5", 1, b"\r", 0)
@example(b"5", 0, b"0x", 0)
@example(b"5", 1, b"_0", 0)
@example(b"5;a=b", 1, b"\x00", 0)
def test_every_mutation_of_a_size_line(line: bytes, at: int, insert: bytes, drop: int) -> None:
    """A size line with bytes put in or taken out is refused, or means to h11 what it means to us."""
    mutated = line[:at] + insert + line[at + drop :]
    body = mutated + b"\r\n" + b"x" * 5 + b"\r\n" + LAST_CHUNK
    try:
        payload, _, rest, done = decode([body])
    except BadRequest:
        return
    assume(done)
    assert h11_decode(body) == (payload, rest)


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\r!",
        b"5 \r\nhello\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
        b"5;a=;b\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: y\n\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
    ],
)
def test_malformed_bodies(body: bytes) -> None:
    """Whole or byte by byte: refused."""
    for parts in ([body], [body[at : at + 1] for at in range(len(body))]):
        with pytest.raises(BadRequest):
            decode(parts)


def feed_on(decoder: ChunkedDecoder, data: bytes, times: int) -> None:
    for _ in range(times):
        decoder.feed(data)


@pytest.mark.parametrize("piece", [64, 1])
def test_endless_size_line(piece: int) -> None:
    """A size line without end is refused at its limit, and not kept."""
    decoder = ChunkedDecoder()
    decoder.feed(b"5;")
    with pytest.raises(BadRequest):
        feed_on(decoder, b"a" * piece, MAX_CHUNK_LINE)


def test_endless_trailers() -> None:
    """Likewise trailers."""
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\n")
    with pytest.raises(BadRequest):
        feed_on(decoder, b"X: y\r\n", MAX_TRAILER_BYTES)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\r\n"]), max_size=6).map(b"".join))
def test_bare_line_ends(data: bytes) -> None:
    """The beginning of a head is refused exactly when a CR or LF in it stands alone; a CR at its end may get its LF."""
    bare = data.removesuffix(b"\r").replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare:
        with pytest.raises(BadRequest):
            refuse_partial(data)
    else:
        refuse_partial(data)


HOSTS = [b"a", b"a.b:80", b"127.0.0.1:8080", b"a_b", b"xn--caf-dma.test", b"a.test.", b"a.test.:80", b"-"]
LITERALS = [
    b"[::1]",
    b"[2001:db8::1]:443",
    b"[::]",
    b"[1:2:3:4:5:6:7:8]",
    b"[::ffff:192.0.2.1]:80",
    b"[64:ff9b::192.0.2.1]",
]
NAME_BYTES = b"-_.:" + string.ascii_letters.encode() + string.digits.encode()


@pytest.mark.parametrize("host", HOSTS + LITERALS)
def test_hosts(host: bytes) -> None:
    """Names, addresses and ports."""
    assert is_host(host)


def test_hosts_remembered() -> None:
    """A spelling that came before is answered from memory, of which hosts that are all different take little."""
    for number in range(10_000):
        assert is_host(b"host-%d" % number) is not is_host(b"host..%d" % number)
    assert 0 < len(known_hosts) <= 4096
    assert is_host(b"a." * 1000)
    assert b"a." * 1000 not in known_hosts


@pytest.mark.parametrize("byte", sorted(set(range(256)) - set(NAME_BYTES)))
def test_bytes_of_a_host(byte: int) -> None:
    """Every other byte is in no name, encoded or not: what it means would depend on who reads it."""
    for host in (b"a%cb" % byte, b"%ca" % byte, b"a%c" % byte, b"a.test%c:80" % byte, b"[::%c1]" % byte):
        assert not is_host(host)
    assert not is_host(b"a%%%02xb" % byte)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b"a:",
        b"a:b",
        b"a:800000",
        b"::1",
        b"[::1",
        b"u@a",
        b".",
        b".a",
        b"a..b",
        b"a..",
        b"a:80.",
        b"[]",
        b"[1]",
        b"[1:2]",
        b"[1.2.3.4]",
        b"[::1%25eth0]",
        b"[::1%eth0]",
        b"[1:2:3:4:5:6:7:8:9]",
        b"[v1.a]",
        b"[::1].",
        b"[::1]a",
    ],
)
def test_no_hosts(host: bytes) -> None:
    """Whatever could be read as another host, or as more than one."""
    assert not is_host(host)
