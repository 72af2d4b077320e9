"""Every response that two parsers could read differently is answered 502; broken off later, it never looks complete."""

from __future__ import annotations

import logging

import pytest

from tests.conformance.address import PORT, SANDBOX, Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import World
from tests.conformance.wire import OK, Peer, Reply

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"
INJECTED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected"


def answer(lines: bytes, body: bytes = b"hello") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (lines, body)


HEADS = family(
    "response head",
    [
        Case("both lengths", answer(b"Content-Length: 5\r\nTransfer-Encoding: chunked", BODY), 502),
        Case("both lengths, other order", answer(b"Transfer-Encoding: chunked\r\nContent-Length: 5", BODY), 502),
        Case("two lengths that differ", answer(b"Content-Length: 5\r\nContent-Length: 6"), 502),
        Case("two lengths that agree", answer(b"Content-Length: 5\r\nContent-Length: 5"), 502),
        Case("length list", answer(b"Content-Length: 5, 5"), 502),
        Case("length with sign", answer(b"Content-Length: +5"), 502),
        Case("negative length", answer(b"Content-Length: -1"), 502),
        Case("hexadecimal length", answer(b"Content-Length: 0x5"), 502),
        Case("empty length", answer(b"Content-Length:"), 502),
        Case("length with letters", answer(b"Content-Length: 5 bytes"), 502),
        Case("length of forty digits", answer(b"Content-Length: " + b"9" * 40), 502),
        Case("length with space before the colon", answer(b"Content-Length : 5"), 502),
        Case("two codings", answer(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BODY), 502),
        Case("coding list", answer(b"Transfer-Encoding: gzip, chunked", BODY), 502),
        Case("coding identity", answer(b"Transfer-Encoding: identity", BODY), 502),
        Case("coding xchunked", answer(b"Transfer-Encoding: xchunked", BODY), 502),
        Case("coding with parameter", answer(b"Transfer-Encoding: chunked;x", BODY), 502),
        Case("coding empty", answer(b"Transfer-Encoding:", BODY), 502),
        Case("coding with vertical tab", answer(b"Transfer-Encoding: \x0bchunked", BODY), 502),
        Case("coding with space before the colon", answer(b"Transfer-Encoding : chunked", BODY), 502),
        Case("coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 502),
        Case("coding with 204", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 502),
        Case("no colon", answer(b"X-A\r\nContent-Length: 5"), 502),
        Case("no name", answer(b": x\r\nContent-Length: 5"), 502),
        Case("space in a name", answer(b"X A: b\r\nContent-Length: 5"), 502),
        Case("byte 0xe9 in a name", answer(b"X\xe9: b\r\nContent-Length: 5"), 502),
        Case("continued line", answer(b"X-A: b\r\n c\r\nContent-Length: 5"), 502),
        Case("continued from the status line", answer(b" X-A: b\r\nContent-Length: 5"), 502),
        Case("bare LF", answer(b"X-A: b\nContent-Length: 5"), 502),
        Case("bare CR", answer(b"X-A: b\rContent-Length: 5"), 502),
        Case("only LFs", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 502),
        Case("NUL in a value", answer(b"X-A: \x00\r\nContent-Length: 5"), 502),
        Case("control character in a value", answer(b"X-A: \x01\r\nContent-Length: 5"), 502),
        Case("control character in the reason", b"HTTP/1.1 200 O\x01K\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("version 2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("version 1.2", b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("version in lower case", b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("another protocol", b"ICY 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("status with sign", b"HTTP/1.1 +20 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("no status", b"HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("two spaces before the status", b"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("space at the beginning", b" HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("empty line first", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        Case("no head at all", b"<html>hello</html>\r\n\r\n", 502),
        Case("TLS", b"\x15\x03\x03\x00\x02\x02\x50", 502),
        Case("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", 502),
        Case("nothing", b"", 502),
        Case("half a head", b"HTTP/1.1 200 OK\r\nContent-", 502),
        Case("head of 100 kB", answer(b"X-A: " + b"b" * 100_000 + b"\r\nContent-Length: 5"), 502),
        Case("unasked protocol switch", b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 502),
        Case("interim answers without end", b"HTTP/1.1 102 Processing\r\n\r\n" * 100 + OK, 502),
    ],
)


@in_each_form
@every(HEADS)
async def test_head(world: World, case: Case, form: Form) -> None:
    """An answer that is not one valid head becomes 502; the client's connection stays in step."""
    world.backend.replies = [Reply(case.raw + INJECTED if case.raw.endswith(b"o") else case.raw, close=True)]
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert answer.status == case.status
    assert answer.one(b"content-type") == b"application/json"
    again = await client.ask(form.write(b"GET {path}/again HTTP/1.1\r\n{host}\r\n\r\n"))
    assert (again.status, again.body) == (200, b"ok")


CHUNKS = family(
    "chunked response body",
    [
        Case("size with sign", b"5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n"),
        Case("size with 0x", b"5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n"),
        Case("size no number", b"5\r\nhello\r\ng\r\nhello\r\n0\r\n\r\n"),
        Case("size empty", b"5\r\nhello\r\n\r\nhello\r\n0\r\n\r\n"),
        Case("size with space", b"5\r\nhello\r\n5 \r\nhello\r\n0\r\n\r\n"),
        Case("size ended by LF", b"5\r\nhello\r\n5\nhello\r\n0\r\n\r\n"),
        Case("size of more than 64 bits", b"5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
        Case("extension with LF", b"5\r\nhello\r\n5;a\nhello\r\n0\r\n\r\n"),
        Case("data longer than its size", b"5\r\nhello\r\n5\r\nhelloo\r\n0\r\n\r\n"),
        Case("data ended by LF", b"5\r\nhello\n0\r\n\r\n"),
        Case("trailer without colon", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
        Case("trailer continued", b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n"),
        Case("end with LF", b"5\r\nhello\r\n0\n\n"),
        Case("end without the last line, closed", b"5\r\nhello\r\n0\r\n"),
        Case("no end, closed", b"5\r\nhello\r\n"),
        Case("half a chunk, closed", b"5\r\nhello\r\n5\r\nhe"),
        Case("half a size, closed", b"5\r\nhello\r\n5"),
        Case("nothing, closed", b""),
        Case("half a trailer, closed", b"5\r\nhello\r\n0\r\nX: "),
    ],
)


@in_each_form
@every(CHUNKS)
async def test_chunks(world: World, case: Case, form: Form) -> None:
    """A chunked answer that breaks is cut without the last chunk, so that no client takes it for complete."""

    async def in_parts(peer: Peer) -> None:
        await peer.message()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await world.backend.next_turn()
        await peer.send(case.raw)

    world.backend.play = in_parts
    client = await world.connect()
    await client.send(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert (await client.message(body=False)).status == 200
    assert await client.take(10) == b"5\r\nhello\r\n"
    world.backend.turn()
    assert not (await client.until_end()).endswith(b"0\r\n\r\n")


@in_each_form
@every(CHUNKS)
async def test_chunks_at_once(world: World, case: Case, form: Form) -> None:
    """When the break is there with the head the client is told, or the answer is cut."""
    await truncated(world, form, Reply(CHUNKED + case.raw, close=True))


TRUNCATED = family(
    "truncated response",
    [
        Case("length, closed", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        Case("length, closed at once", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        Case("length, one byte missing", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 99_999),
        Case("chunked, between chunks", CHUNKED + b"5\r\nhello\r\n"),
        Case("chunked, inside a chunk", CHUNKED + b"a\r\nhello"),
    ],
)


@in_each_form
@every(TRUNCATED)
async def test_truncated_by_close(world: World, case: Case, form: Form) -> None:
    """An answer that the sandbox breaks off by closing is visibly incomplete."""
    await truncated(world, form, Reply(case.raw, close=True))


@in_each_form
@every(TRUNCATED)
async def test_truncated_by_reset(world: World, case: Case, form: Form) -> None:
    """An answer that the sandbox breaks off by a reset is visibly incomplete."""
    await truncated(world, form, Reply(case.raw, reset=True))


async def truncated(world: World, form: Form, reply: Reply) -> None:
    world.backend.reply = reply
    client = await world.connect()
    await client.send(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    try:
        answer = await client.message()
    except ConnectionError:
        return
    assert answer.status in (200, 502)
    assert answer.status == 502 or not answer.complete
    if answer.status == 200:
        assert await client.until_end() == b""


@in_each_form
async def test_reset_of_an_endless_answer(world: World, form: Form) -> None:
    """An answer that lasts until the connection closes is complete only when it closes in order."""
    world.backend.play = reset_in_the_middle
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert answer.status == 200
    assert not answer.complete


async def reset_in_the_middle(peer: Peer) -> None:
    await peer.message()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    peer.reset()


@in_each_form
async def test_surplus_bytes(world: World, form: Form) -> None:
    """Bytes behind a complete answer are never taken for the answer to the next request."""
    world.backend.replies = [Reply(answer(b"Content-Length: 5") + INJECTED)]
    client = await world.connect()
    for expected in (b"hello", b"ok"):
        message = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
        assert message.body == expected


@in_each_form
async def test_unasked_answer(world: World, form: Form) -> None:
    """A sandbox that speaks on an idle connection loses it; the next request gets its own answer."""
    client = await world.connect()
    request = form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n")
    assert (await client.ask(request)).body == b"ok"
    await world.backend.speak(INJECTED)
    assert (await client.ask(request)).body == b"ok"


@in_each_form
@pytest.mark.parametrize("said", [b"Unauthorized", b"ICY 200 OK\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"x" * 300])
async def test_no_http(world: World, form: Form, said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no HTTP are named as that at once; the log shows them once, clients never."""
    world.backend.reply = Reply(said)
    client = await world.connect()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
            assert answer.status == 502
            assert b"GATEWAY::INVALID_RESPONSE" in answer.body
            assert b"not HTTP" in answer.body
            assert said[:12] not in answer.body
    lines = [record.getMessage() for record in caplog.records if "answers no HTTP" in record.getMessage()]
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in said.split(b"\r\n")[0][:80])
    assert lines == [f"port {PORT} of sandbox {SANDBOX} answers no HTTP: {shown!r}"]


async def test_head_that_breaks_off(world: World) -> None:
    """What begins as a response and ends too early is no other protocol."""
    world.backend.reply = Reply(b"HTT", close=True)
    client = await world.connect()
    answer = await client.ask(Form.URI.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert (answer.status, b"without an answer" in answer.body) == (502, True)
