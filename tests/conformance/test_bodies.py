"""Methods and bodies: nothing is lost, added, decoded or reordered, in either direction."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest

from tests.conformance.address import Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import World
from tests.conformance.wire import OK, Peer, Reply

SIZES = [0, 1, 2, 255, 256, 4095, 65535, 65536, 65537, 300_000, 2_000_000]
RANDOM = random.Random(4)
BYTES = RANDOM.randbytes(max(SIZES))

WORDS = """
GET POST PUT DELETE PATCH OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL
REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK SOURCE
"""
METHODS = family("methods", [Case(method, method.encode()) for method in WORDS.split()])


@pytest.mark.defect(2)
@in_each_form
@every(METHODS)
async def test_method(world: World, case: Case, form: Form) -> None:
    """Every registered method is passed on."""
    client = await world.connect()
    answer = await client.ask(form.write(case.raw + b" {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert world.backend.seen[0].raw_head.startswith(case.raw + b" /x HTTP/1.1\r\n")


@pytest.mark.defect(2)
@in_each_form
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
async def test_body_with_any_method(world: World, form: Form, method: bytes) -> None:
    """A body is a body, whatever the method."""
    client = await world.connect()
    raw = method + b" {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello"
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    for _ in range(2):
        answer = await client.ask(form.write(raw), method)
        assert answer.status == 200
    assert [message.body for message in world.backend.seen] == [b"hello"] * 2


@in_each_form
async def test_options_of_the_server(world: World, form: Form) -> None:
    """`OPTIONS *` goes to the sandbox where the address is no path."""
    client = await world.connect()
    answer = await client.ask(form.write(b"OPTIONS * HTTP/1.1\r\n{host}\r\n\r\n"))
    if form in (Form.HEADER, Form.HOST):
        assert answer.status == 200
        assert world.backend.seen[0].target == b"*"
    else:
        assert answer.status == 404
        assert world.backend.seen == []


@in_each_form
async def test_absolute_target(world: World, form: Form) -> None:
    """A target in absolute form is passed on as its path when it names the Host."""
    client = await world.connect()
    raw = b"GET HTTP://%b{path}/x?y HTTP/1.1\r\n{host}\r\n\r\n" % form.host
    assert (await client.ask(form.write(raw))).status == 200
    assert world.backend.seen[0].target == b"/x?y"


def in_chunks(data: bytes, sizes: list[int]) -> bytes:
    out, at, turns = bytearray(), 0, itertools.cycle(sizes)
    while part := data[at : at + next(turns)]:
        out += b"%x\r\n%b\r\n" % (len(part), part)
        at += len(part)
    return bytes(out) + b"0\r\n\r\n"


@in_each_form
@pytest.mark.parametrize("size", SIZES)
async def test_upload_with_length(world: World, form: Form, size: int) -> None:
    """A body with a length arrives with that length."""
    client = await world.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: %d\r\n\r\n" % size
    assert (await client.ask(form.write(raw) + BYTES[:size])).body == b"ok"
    message = world.backend.seen[0]
    assert message.one(b"content-length") == b"%d" % size
    assert digest(message.body) == digest(BYTES[:size])


@in_each_form
@pytest.mark.parametrize("size", SIZES)
async def test_upload_in_chunks(world: World, form: Form, size: int) -> None:
    """A chunked body arrives chunked, with the same content."""
    client = await world.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await client.ask(form.write(raw) + in_chunks(BYTES[:size], [1, 70_000, 16, 4096]))).body == b"ok"
    message = world.backend.seen[0]
    assert message.one(b"transfer-encoding") == b"chunked"
    assert message.one(b"content-length") is None
    assert digest(message.body) == digest(BYTES[:size])


@in_each_form
@pytest.mark.parametrize("size", SIZES)
async def test_download_with_length(world: World, form: Form, size: int) -> None:
    """An answer with a length arrives with that length."""
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, BYTES[:size]))
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert answer.one(b"content-length") == b"%d" % size
    assert digest(answer.body) == digest(BYTES[:size])


@in_each_form
@pytest.mark.parametrize("size", SIZES)
async def test_download_in_chunks(world: World, form: Form, size: int) -> None:
    """A chunked answer arrives chunked, with the same content."""
    world.backend.reply = Reply(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(BYTES[:size], [3, 9000, 65536])
    )
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert answer.one(b"transfer-encoding") == b"chunked"
    assert answer.complete
    assert digest(answer.body) == digest(BYTES[:size])


@in_each_form
@pytest.mark.parametrize("size", SIZES)
async def test_download_until_close(world: World, form: Form, size: int) -> None:
    """An answer that ends with its connection becomes chunked, so that its end can be told from a break."""
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\n\r\n" + BYTES[:size], close=True)
    client = await world.connect()
    for _ in range(2):
        answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
        assert answer.one(b"transfer-encoding") == b"chunked"
        assert answer.complete
        assert digest(answer.body) == digest(BYTES[:size])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CHUNKED_POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
UPLOADS = family(
    "requests in single bytes",
    [
        Case("no body", b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n", saw=b""),
        Case("length", b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello", saw=b"hello"),
        Case("chunks", CHUNKED_POST + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n", saw=b"hello"),
    ],
)


@in_each_form
@every(UPLOADS)
async def test_request_in_single_bytes(world: World, case: Case, form: Form) -> None:
    """Where the bytes of a request are cut into packets makes no difference."""
    client = await world.connect()
    for byte in form.write(case.raw):
        await client.send(bytes([byte]))
    assert (await client.message()).body == b"ok"
    assert world.backend.seen[0].body == case.saw


ANSWERS = family(
    "answers in single bytes",
    [
        Case("length", HELLO, saw=b"hello"),
        Case(
            "chunks",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n",
            saw=b"hello",
        ),
        Case(
            "interim first",
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + HELLO,
            saw=b"hello",
        ),
        Case("nothing", b"HTTP/1.1 204 No Content\r\n\r\n", saw=b""),
    ],
)


@in_each_form
@every(ANSWERS)
async def test_answer_in_single_bytes(world: World, case: Case, form: Form) -> None:
    """Where the bytes of an answer are cut into packets makes no difference."""

    async def dribble(peer: Peer) -> None:
        await peer.message()
        for byte in case.raw:
            await peer.send(bytes([byte]))
        await peer.until_end()

    world.backend.play = dribble
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert answer.complete
    assert answer.body == case.saw


EXTENSIONS = family(
    "chunk extensions",
    [
        Case("name", b"5;a\r\nhello\r\n0\r\n\r\n"),
        Case("name and value", b"5;a=b;c=d\r\nhello\r\n0\r\n\r\n"),
        Case("quoted value", b'5;a="b c"\r\nhello\r\n0\r\n\r\n'),
        Case("on the last chunk", b"5\r\nhello\r\n0;a=b\r\n\r\n"),
        Case("capitals and zeros in the size", b"0000A\r\nhellohello\r\n00\r\n\r\n"),
    ],
)


@in_each_form
@every(EXTENSIONS)
async def test_chunk_extensions_are_dropped(world: World, case: Case, form: Form) -> None:
    """Chunk extensions are between two hops: they are understood and not passed on."""
    got = await upload_raw(
        world, form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n") + case.raw
    )
    assert b";" not in got
    assert got.endswith(b"0\r\n\r\n")


async def upload_raw(world: World, raw: bytes) -> bytes:
    """The chunked body as it is on the wire behind the gateway."""
    caught: list[bytes] = []

    async def catch(peer: Peer) -> None:
        await peer.message(body=False)
        body = b""
        while not body.endswith(b"\r\n\r\n") or b"0\r\n" not in body:
            body += await peer.take(1)
        caught.append(body)
        await peer.send(OK)
        await peer.until_end()

    world.backend.play = catch
    client = await world.connect()
    assert (await client.ask(raw)).body == b"ok"
    return caught[0]


TRAILERS = family(
    "trailers",
    [
        Case("one", b"X-Checksum: abc\r\n", saw=b"x-checksum: abc"),
        Case("several", b"A: 1\r\nB: 2\r\nA: 3\r\n", saw=b"a: 1, b: 2, a: 3"),
        Case("latin-1", b"A: \xe9\r\n", saw=b"a: \xe9"),
        Case("status of a call", b"grpc-status: 0\r\ngrpc-message: ok\r\n", saw=b"grpc-status: 0, grpc-message: ok"),
        Case("framing is dropped", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nA: 1\r\n", saw=b"a: 1"),
        Case("routing is dropped", b"Host: x\r\nOpenSandbox-Ingress-To: x\r\nTE: x\r\nA: 1\r\n", saw=b"a: 1"),
        Case(
            "credentials are dropped",
            b"Authorization: x\r\nCookie: x\r\nSet-Cookie: x\r\nA: 1\r\n",
            saw=b"a: 1",
        ),
        Case("twins are dropped", b"Content_Length: 5\r\nX_Forwarded_For: x\r\nA: 1\r\n", saw=b"a: 1"),
    ],
)


@in_each_form
@every(TRAILERS)
async def test_request_trailers(world: World, case: Case, form: Form) -> None:
    """Trailers of a request reach the sandbox, except those that frame, route or identify."""
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n%b\r\n" % case.raw
    client = await world.connect()
    assert (await client.ask(form.write(raw))).status == 200
    assert shown(world.backend.seen[0].trailers) == case.saw


@in_each_form
@every(TRAILERS)
async def test_answer_trailers(world: World, case: Case, form: Form) -> None:
    """Trailers of an answer reach the client, except those that frame, route or identify."""
    world.backend.reply = Reply(
        b"HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n%b\r\n" % case.raw
    )
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nTE: trailers\r\n\r\n"))
    assert answer.one(b"trailer") == b"A"
    assert shown(answer.trailers) == case.saw


def shown(trailers: list[tuple[bytes, bytes]]) -> bytes:
    return b", ".join(b"%b: %b" % trailer for trailer in trailers)


@in_each_form
async def test_first_bytes_do_not_wait(world: World, form: Form) -> None:
    """Every event of a stream reaches the client before the next one is sent."""

    async def events(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(20):
            await peer.send(b"data: %d\n\n" % number)
            await world.backend.next_turn()

    world.backend.play = events
    client = await world.connect()
    await client.send(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    await client.message(body=False)
    for number in range(20):
        event = b"data: %d\n\n" % number
        assert await client.take(len(b"%x\r\n%b\r\n" % (len(event), event))) == b"%x\r\n%b\r\n" % (len(event), event)
        world.backend.turn()
    assert await client.take(5) == b"0\r\n\r\n"


@in_each_form
async def test_upload_does_not_wait(world: World, form: Form) -> None:
    """Parts of a body reach the sandbox before the client sends the next."""
    got: list[bytes] = []

    async def collect(peer: Peer) -> None:
        await peer.message(body=False)
        for _ in range(10):
            got.append(await peer.take(5))
            world.backend.step()
        await peer.send(OK)

    world.backend.play = collect
    client = await world.connect()
    await client.send(form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 50\r\n\r\n"))
    for number in range(10):
        await client.send(b"part%d" % number)
        await world.backend.next_step()
    assert (await client.message()).body == b"ok"
    assert got == [b"part%d" % number for number in range(10)]
