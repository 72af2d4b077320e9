"""What follows what on a connection: interim, early and bodiless answers, old clients, pipelines, retries."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.address import Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import API_HOST, World
from tests.conformance.wire import OK, Peer, Reply

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
LARGE = b"x" * 3_000_000


INTERIM = family(
    "interim answers",
    [
        Case("103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", saw=b"103"),
        Case("102", b"HTTP/1.1 102 Processing\r\n\r\n", saw=b"102"),
        Case("several", b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + b"HTTP/1.1 103 Early\r\n\r\n", saw=b"102,102,102,103"),
        Case("100 that nobody expected", b"HTTP/1.1 100 Continue\r\n\r\n", saw=b"100"),
    ],
)


@in_each_form
@every(INTERIM)
async def test_interim(world: World, case: Case, form: Form) -> None:
    """Interim answers reach the client before the final one."""
    world.backend.reply = Reply(case.raw + OK)
    client = await world.connect()
    answer = await client.ask(form.write(GET))
    assert b",".join(b"%d" % event.status_code for event in answer.interim) == case.saw
    assert answer.body == b"ok"


@in_each_form
async def test_no_interim_for_old_clients(world: World, form: Form) -> None:
    """An HTTP/1.0 client knows no interim answers."""
    world.backend.reply = Reply(b"HTTP/1.1 103 Early\r\n\r\n" + OK)
    client = await world.connect()
    await client.send(form.write(GET).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"103" not in await client.until_end()


@in_each_form
async def test_continue(world: World, form: Form) -> None:
    """The sandbox decides whether the body is sent: 100 comes from it and from nobody else."""

    async def allow(peer: Peer) -> None:
        head = await peer.message(body=False)
        assert head.one(b"expect") == b"100-continue"
        await world.backend.next_turn()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.take(5) == b"hello"
        await peer.send(OK)

    world.backend.play = allow
    client = await world.connect()
    await client.send(
        form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    )
    world.backend.turn()
    assert await client.take(len(b"HTTP/1.1 100 Continue\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
    answer = await client.ask(b"hello")
    assert answer.body == b"ok"


@in_each_form
@pytest.mark.parametrize("status", [b"413 Too Large", b"417 Expectation Failed", b"401 Unauthorized"])
async def test_expectation_refused(world: World, form: Form, status: bytes) -> None:
    """A sandbox that does not want the body says so before it is sent."""
    world.backend.reply = Reply(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % status, early=True)
    client = await world.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    answer = await client.ask(form.write(raw))
    assert (b"%d" % answer.status, answer.body) == (status[:3], b"no")


@in_each_form
@pytest.mark.parametrize("chunked", [False, True])
async def test_early_answer(world: World, form: Form, chunked: bool) -> None:
    """An answer that comes while the client still uploads reaches it, whole, although the upload goes on."""
    world.backend.reply = Reply(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\n\r\ntoo big", early=True, close=True)
    client = await world.connect()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(LARGE)
    await client.send(form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n\r\n" % framing))
    await client.send(b"%x\r\n" % len(LARGE) + LARGE if chunked else LARGE)
    answer = await client.message()
    assert (answer.status, answer.body, answer.complete) == (413, b"too big", True)


@in_each_form
async def test_early_answer_then_the_rest(world: World, form: Form) -> None:
    """Whatever becomes of the upload after an early answer, it is never read as a request."""
    world.backend.reply = Reply(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", early=True)
    smuggled = form.write(b"GET {path}/smuggled HTTP/1.1\r\n{host}\r\n\r\n")
    client = await world.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    assert (await client.ask(form.write(raw))).status == 403
    await client.send(smuggled)
    await client.until_end()
    assert [message.target for message in world.backend.seen] == [b"/x"]


BODILESS = family(
    "answers without a body",
    [
        Case("204", b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204),
        Case("304", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', 304),
        Case("304 with a length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
        Case("205", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205),
        Case("200 of length 0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ],
)


@in_each_form
@every(BODILESS)
async def test_bodiless(world: World, case: Case, form: Form) -> None:
    """An answer without a body ends with its head, on a connection that goes on."""
    world.backend.reply = Reply(case.raw)
    client = await world.connect()
    for _ in range(3):
        answer = await client.ask(form.write(GET))
        assert answer.raw_head == case.raw
        assert answer.complete
    assert world.backend.connections == 1


@in_each_form
async def test_length_of_nothing(world: World, form: Form) -> None:
    """A 204 has no body, so a length on it is taken away: it could only confuse."""
    world.backend.reply = Reply(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX-A: b\r\n\r\n")
    client = await world.connect()
    assert (await client.ask(form.write(GET))).raw_head == b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"


HEADS = family(
    "answers to HEAD",
    [
        Case("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        Case("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Case("neither", b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"),
        Case("404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n", 404),
        Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    ],
)


@in_each_form
@every(HEADS)
async def test_head(world: World, case: Case, form: Form) -> None:
    """The answer to a HEAD has no body, whatever length it names, and the next answer is the next request's."""
    client = await world.connect()
    for _ in range(3):
        world.backend.replies = [Reply(case.raw), Reply(OK)]
        answer = await client.ask(form.write(GET).replace(b"GET", b"HEAD"), b"HEAD")
        assert (answer.status, answer.body) == (case.status, b"")
        if b"Content-Length" in case.raw:
            assert answer.raw_head == case.raw
        assert (await client.ask(form.write(GET))).body == b"ok"


@in_each_form
async def test_body_after_head(world: World, form: Form) -> None:
    """A sandbox that sends a body to a HEAD cannot make it the next answer."""
    world.backend.replies = [Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + OK), Reply()]
    client = await world.connect()
    await client.ask(form.write(GET).replace(b"GET", b"HEAD"), b"HEAD")
    answer = await client.ask(form.write(GET))
    assert answer.one(b"content-length") == b"2"
    assert len(world.backend.seen) == 2


OLD = family(
    "HTTP/1.0 clients",
    [
        Case("length", OK, saw=b"ok"),
        Case("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", saw=b"ok"),
        Case("empty", b"HTTP/1.1 204 No Content\r\n\r\n", saw=b""),
    ],
)


@in_each_form
@every(OLD)
async def test_old_client(world: World, case: Case, form: Form) -> None:
    """An HTTP/1.0 client gets a plain body that ends with the connection."""
    world.backend.reply = Reply(case.raw)
    client = await world.connect()
    await client.send(form.write(GET).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = (await client.until_end()).partition(b"\r\n\r\n")
    assert body == case.saw
    assert b"chunked" not in head
    assert b"Connection: close" in head


@in_each_form
async def test_old_client_that_keeps_alive(world: World, form: Form) -> None:
    """An HTTP/1.0 client that asks for it keeps its connection when the answer has a length."""
    client = await world.connect()
    raw = form.write(b"GET {path}/x HTTP/1.0\r\n{host}\r\nConnection: Keep-Alive\r\n\r\n")
    for _ in range(3):
        answer = await client.ask(raw)
        assert answer.one(b"connection") == b"keep-alive"


@in_each_form
async def test_old_backend(world: World, form: Form) -> None:
    """A sandbox that speaks HTTP/1.0 gets one request per connection; its client notices nothing."""
    world.backend.reply = Reply(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", close=True)
    client = await world.connect()
    for _ in range(3):
        answer = await client.ask(form.write(GET))
        assert answer.raw_head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.body == b"ok"
    assert world.backend.connections == 3


@in_each_form
@pytest.mark.parametrize("count", [2, 20, 200])
async def test_pipeline(world: World, form: Form, count: int) -> None:
    """Requests sent at once are answered one by one, in their order."""
    world.backend.replies = [
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (number, b"y" * number)) for number in range(count)
    ]
    client = await world.connect()
    await client.send(b"".join(form.write(GET).replace(b"/x", b"/%d" % number) for number in range(count)))
    for number in range(count):
        assert len((await client.message()).body) == number
    assert [message.target for message in world.backend.seen] == [b"/%d" % number for number in range(count)]


async def name_targets(peer: Peer) -> None:
    """Answers each request with its target."""
    rest = b""
    while data := await peer._more():
        *heads, rest = (rest + data).split(b"\r\n\r\n")
        targets = [head.split(b" ", 2)[1] for head in heads]
        await peer.send(b"".join(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(t), t) for t in targets))


async def test_pipeline_of_ten_thousand(world: World) -> None:
    """However many requests are sent at once, each has its own answer, and the connection goes on."""
    world.backend.play = name_targets
    numbers = [b"/%05d" % number for number in range(10_000)]
    client = await world.connect()
    sending = asyncio.create_task(
        client.send(b"".join(Form.HOST.write(GET).replace(b"/x", target) for target in numbers))
    )
    answer = len(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n/00000")
    assert [(await client.take(answer))[-6:] for _ in numbers] == numbers
    await sending
    assert (await client.ask(Form.HOST.write(GET))).body == b"/x"
    assert world.backend.connections == 1


@in_each_form
async def test_pipeline_with_bodies(world: World, form: Form) -> None:
    """Bodies and heads in one packet are told apart."""
    length = form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello")
    chunked = form.write(b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbye\r\n0\r\n\r\n")
    client = await world.connect()
    await client.send((length + chunked + form.write(GET)) * 5)
    for _ in range(15):
        assert (await client.message()).body == b"ok"
    assert [message.body for message in world.backend.seen] == [b"hello", b"bye", b""] * 5


@in_each_form
async def test_pipeline_with_errors(world: World, form: Form) -> None:
    """An answer of our own stands in its place in the order and does not end the connection."""
    missing = form.write(GET, id="other")
    client = await world.connect()
    await client.send(form.write(GET) + missing + form.write(GET) + missing)
    assert [(await client.message()).status for _ in range(4)] == [200, 404, 200, 404]


async def test_pipeline_of_all_forms(world: World) -> None:
    """One connection can mix all ways of addressing and requests for nobody."""
    nobody = b"GET /health HTTP/1.1\r\nHost: %b\r\n\r\n" % API_HOST
    client = await world.connect()
    await client.send(b"".join(form.write(GET) for form in Form) + nobody + Form.HOST.write(GET))
    assert [(await client.message()).status for _ in range(6)] == [200, 200, 200, 200, 404, 200]


@in_each_form
async def test_requests_after_a_refused_one(world: World, form: Form) -> None:
    """Nothing behind a malformed request is read."""
    client = await world.connect()
    await client.send(form.write(GET) + form.write(GET).replace(b"\r\n\r\n", b"\r\nX : y\r\n\r\n") + form.write(GET))
    assert [(await client.message()).status for _ in range(2)] == [200, 400]
    assert await client.until_end() == b""
    assert len(world.backend.seen) == 1


@in_each_form
async def test_close(world: World, form: Form) -> None:
    """A client that asks for it is answered and closed; what it sent behind is not read."""
    client = await world.connect()
    await client.send(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n") + form.write(GET))
    answer = await client.message()
    assert answer.one(b"connection") == b"close"
    assert await client.until_end() == b""
    assert len(world.backend.seen) == 1


@in_each_form
async def test_empty_line_before_a_request(world: World, form: Form) -> None:
    """One empty line before a request is ignored, as old clients send it after a body."""
    client = await world.connect()
    await client.send(form.write(GET) + b"\r\n" + form.write(GET))
    assert [(await client.message()).status for _ in range(2)] == [200, 200]


@in_each_form
async def test_connection_is_used_again(world: World, form: Form) -> None:
    """Connections to the sandbox outlive those of clients."""
    for _ in range(5):
        client = await world.connect()
        assert (await client.ask(form.write(GET))).body == b"ok"
        await client.close()
    assert world.backend.connections == 1


@in_each_form
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])
async def test_retry(world: World, form: Form, method: bytes) -> None:
    """A request that may be repeated survives a reused connection that dies before a byte of the answer."""
    world.backend.replies = [Reply(), Reply(b"", close=True), Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]
    client = await world.connect()
    await client.ask(form.write(GET))
    answer = await client.ask(form.write(GET).replace(b"GET", method), method)
    assert answer.status == 200
    assert world.backend.connections == 2
    assert len(world.backend.seen) == 3


NOT_REPEATED = family(
    "requests that are not repeated",
    [
        Case("POST", b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 0\r\n\r\n", 502),
        Case("PATCH", b"PATCH {path}/x HTTP/1.1\r\n{host}\r\n\r\n", 502),
        Case("PUT with a body", b"PUT {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello", 502),
    ],
)


@in_each_form
@every(NOT_REPEATED)
async def test_no_retry(world: World, case: Case, form: Form) -> None:
    """A request that may have done something is not sent twice."""
    world.backend.replies = [Reply(), Reply(b"", close=True)]
    client = await world.connect()
    await client.ask(form.write(GET))
    assert (await client.ask(form.write(case.raw))).status == case.status
    assert len(world.backend.seen) == 2


@in_each_form
async def test_no_second_retry(world: World, form: Form) -> None:
    """A request is repeated once, on a fresh connection; when that one dies too the client is told."""
    world.backend.replies = [Reply(), Reply(b"", close=True), Reply(b"", close=True)]
    client = await world.connect()
    await client.ask(form.write(GET))
    assert (await client.ask(form.write(GET))).status == 502
    assert len(world.backend.seen) == 3


@in_each_form
@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 103 Early\r\n\r\n"])
async def test_no_retry_after_a_byte(world: World, form: Form, part: bytes) -> None:
    """Once a byte of an answer has come the request is not repeated."""
    world.backend.replies = [Reply(), Reply(part, close=True)]
    client = await world.connect()
    await client.ask(form.write(GET))
    assert (await client.ask(form.write(GET))).status == 502
    assert len(world.backend.seen) == 2


@in_each_form
async def test_client_that_leaves(world: World, form: Form) -> None:
    """When the client goes the sandbox notices, so that it can stop working."""
    left = []

    async def wait(peer: Peer) -> None:
        await peer.message()
        world.backend.step()
        left.append(await peer.until_end())
        world.backend.step()

    world.backend.play = wait
    client = await world.connect()
    await client.send(form.write(GET))
    await world.backend.next_step()
    client.abort()
    await world.backend.next_step()
    assert left == [b""]


@in_each_form
async def test_client_that_leaves_an_upload(world: World, form: Form) -> None:
    """An upload that breaks off never looks complete to the sandbox."""
    client = await world.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    await client.send(form.write(raw))
    client.abort()
    second = await world.connect()
    assert (await second.ask(form.write(GET))).body == b"ok"
    assert all(message.complete == (message.target == b"/x" and message.body == b"") for message in world.backend.seen)
