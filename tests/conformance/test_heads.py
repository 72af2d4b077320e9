"""What a sandbox sees of a request head and a client of an answer's: the sender's lines, less what is ours."""

from __future__ import annotations

import re

import pytest

from tests.conformance.address import Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import World
from tests.conformance.wire import Message, Reply

ADDED = re.compile(rb"X-Forwarded-(For|Proto|Host|Port|Prefix): |X-Request-ID: |Host: ")
"""The lines that the gateway puts behind the client's."""


def get(*lines: bytes) -> bytes:
    return b"GET {path}/x HTTP/1.1\r\n{host}\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def seen(world: World, raw: bytes) -> Message:
    client = await world.connect()
    answer = await client.ask(raw)
    assert answer.status == 200
    return world.backend.seen[-1]


def own_lines(message: Message) -> list[bytes]:
    return [line for line in message.lines if ADDED.match(line) is None]


KEPT = family(
    "request headers kept",
    [
        Case("order", get(b"B: 2", b"A: 1", b"C: 3")),
        Case("duplicates", get(b"A: 1", b"B: 2", b"A: 3", b"A: 1")),
        Case("spelling of names", get(b"x-LOWER-upper: Value", b"ACCEPT: x/Y")),
        Case("latin-1", get(b"X-Name: caf\xe9 \xff\xa0")),
        Case("UTF-8", get(b"X-Name: caf\xc3\xa9 \xe2\x82\xac")),
        Case("empty values", get(b"A:", b"B:", b"C: 3", b"D:")),
        Case("inner blanks", get(b"A: a  b\tc")),
        Case("no blank after the colon", get(b"A:b")),
        Case("more blanks around", get(b"A:  \tb \t")),
        Case("colons", get(b"A: b:c::d", b"B: :")),
        Case("separators", get(b'A: "(),/;<=>?@[\\]{}')),
        Case("all characters of names", get(b"!#$%&'*+-.^_`|~09azAZ: x")),
        Case("underscores", get(b"my_header: x", b"_: y", b"X_Custom_Thing: z")),
        Case("long value", get(b"A: " + b"x" * 6000)),
        Case("forty headers", get(*(b"H%d: %d" % (number, number) for number in range(40)))),
        Case("cookies", get(b"Cookie: a=1; b=2", b"Cookie: c=3")),
        Case("authorization", get(b"Authorization: Bearer abc.def")),
        Case("no Accept-Encoding added", get(b"Accept: */*")),
        Case("Accept-Encoding", get(b"Accept-Encoding: gzip, deflate, br;q=0.5")),
        Case("range", get(b"Range: bytes=0-10", b'If-Range: "x"')),
        Case("conditions", get(b'If-None-Match: "a", W/"b"', b"If-Modified-Since: Mon, 23 Nov 2026 06:00:00 GMT")),
        Case("origin", get(b"Origin: http://gateway.test", b"Referer: http://gateway.test/sb/8080/")),
        Case(
            "trace context",
            get(b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ),
        Case("CORS preflight", get(b"Access-Control-Request-Method: PUT", b"Access-Control-Request-Headers: x")),
        Case("tokens of execd and egress", get(b"X-EXECD-ACCESS-TOKEN: t", b"OPENSANDBOX-EGRESS-AUTH: t")),
        Case("via", get(b"Via: 1.1 other")),
        Case("pragma of caches", get(b"Cache-Control: no-cache", b"Pragma: no-cache")),
        Case("upgrade of insecure requests", get(b"Upgrade-Insecure-Requests: 1")),
        Case("names close to ours", get(b"OpenSandbox-Other: x", b"X-Forwarded: y", b"X-Request-IDs: z")),
        Case("TE trailers", get(b"TE: trailers")),
    ],
)


@pytest.mark.defect(2)
@in_each_form
@every(KEPT)
async def test_kept(world: World, case: Case, form: Form) -> None:
    """The client's lines reach the sandbox byte for byte, in their order."""
    raw = form.write(case.raw)
    sent = case.raw.split(b"\r\n")[2:-2]
    assert own_lines(await seen(world, raw)) == sent


REMOVED = family(
    "request headers removed",
    [
        Case("Connection", get(b"Connection: keep-alive")),
        Case("Connection, empty", get(b"Connection:")),
        Case("Keep-Alive", get(b"Keep-Alive: timeout=5", b"Connection: keep-alive")),
        Case("Proxy-Connection", get(b"Proxy-Connection: keep-alive")),
        Case("Proxy-Authorization", get(b"Proxy-Authorization: Basic eDp5")),
        Case("TE of codings", get(b"TE: gzip", b"Connection: TE")),
        Case("Upgrade without Connection", get(b"Upgrade: websocket")),
        Case("HTTP/2 offer", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")),
        Case("named by Connection", get(b"Connection: x-hop", b"X-Hop: secret")),
        Case("named by Connection afterwards", get(b"X-Hop: secret", b"Connection: close-not, X-HOP")),
        Case("several named by Connection", get(b"X-A: 1", b"Connection: x-a , ,x-b", b"X-B: 2", b"X-A: 3")),
        Case("named by a second Connection", get(b"Connection: keep-alive", b"Connection: x-a", b"X-A: 1")),
        Case("API key", get(b"OPEN-SANDBOX-API-KEY: key")),
        Case("API key, other case", get(b"open-sandbox-api-KEY: key")),
        Case("client address of the platform", get(b"OPEN-SANDBOX-CLIENT-IP: 1.2.3.4")),
        Case("secure access token", get(b"OpenSandbox-Secure-Access: token")),
        Case("renewal mark", get(b"OpenSandbox-Access-Renew: skip")),
        Case("route credential", get(b"X-Fast-Sandbox-Route-Credential: x")),
        Case("marks between gateway and API", get(b"X-Gateway-Peer: 1.2.3.4", b"X-Gateway-Scheme: https")),
        Case("X-Forwarded-For of a stranger", get(b"X-Forwarded-For: 1.2.3.4")),
        Case("X-Forwarded-Proto of a stranger", get(b"X-Forwarded-Proto: https")),
        Case("X-Forwarded-Host of a stranger", get(b"X-Forwarded-Host: evil.test")),
        Case("X-Forwarded-Port of a stranger", get(b"X-Forwarded-Port: 1")),
        Case("X-Forwarded-Prefix of a stranger", get(b"X-Forwarded-Prefix: /evil")),
        Case("X-Real-IP of a stranger", get(b"X-Real-IP: 1.2.3.4")),
        Case("Forwarded of a stranger", get(b"Forwarded: for=1.2.3.4")),
    ],
)


@pytest.mark.defect(14)
@in_each_form
@every(REMOVED)
async def test_removed(world: World, case: Case, form: Form) -> None:
    """Hop-by-hop lines, credentials for us and marks of strangers do not travel on."""
    message = await seen(world, form.write(case.raw))
    assert own_lines(message) == []
    for value in (b"evil", b"1.2.3.4", b"secret"):
        assert value not in message.raw_head


async def test_old_header_is_removed(world: World) -> None:
    """The deprecated routing header is not passed on either."""
    message = await seen(world, b"GET /x HTTP/1.1\r\nHost: gateway.test\r\nOPEN-SANDBOX-INGRESS: sb-8080\r\n\r\n")
    assert own_lines(message) == []


@pytest.mark.defect(14)
@in_each_form
async def test_forwarded(world: World, form: Form) -> None:
    """The sandbox is told who asked, how, and under which address; a prefix only where one was taken away."""
    message = await seen(world, form.write(get()))
    assert message.one(b"host") == form.host
    assert message.one(b"x-forwarded-for") == b"127.0.0.1"
    assert message.one(b"x-forwarded-proto") == b"http"
    assert message.one(b"x-forwarded-host") == form.host
    assert message.one(b"x-forwarded-port") == b"80"
    assert message.one(b"x-forwarded-prefix") == (form.prefix or None)


@in_each_form
@pytest.mark.parametrize(("suffix", "port"), [(b":8443", b"8443"), (b":1", b"1"), (b"", b"80")])
async def test_forwarded_port(world: World, form: Form, suffix: bytes, port: bytes) -> None:
    """The public port is the one of the Host, whatever port we listen on."""
    raw = form.write(get()).replace(b".test\r\n", b".test%b\r\n" % suffix)
    message = await seen(world, raw)
    assert message.one(b"host") == form.host + suffix
    assert message.one(b"x-forwarded-port") == port


@in_each_form
async def test_request_id_is_kept(world: World, form: Form) -> None:
    """A request id of the client is passed on and not doubled."""
    message = await seen(world, form.write(get(b"X-Request-ID: client-id-1")))
    assert message.all(b"x-request-id") == [b"client-id-1"]


@in_each_form
async def test_request_id_is_made(world: World, form: Form) -> None:
    """Without one each request gets its own."""
    ids = [(await seen(world, form.write(get()))).one(b"x-request-id") for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(ids)


@in_each_form
@pytest.mark.parametrize(
    "lines", [[b"X-Request-ID: " + b"x" * 2000], [b"X-Request-ID:"], [b"X-Request-ID: a", b"x-request-id: b"]]
)
async def test_odd_request_ids(world: World, form: Form, lines: list[bytes]) -> None:
    """There is one request id of reasonable length, whatever the client sends."""
    message = await seen(world, form.write(get(*lines)))
    value = message.one(b"x-request-id")
    assert value is not None
    assert 0 < len(value) <= 128


TRUSTED_CASES = [
    ([b"X-Forwarded-For: 9.9.9.9"], b"x-forwarded-for", b"9.9.9.9, 127.0.0.1"),
    ([b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-For: 8.8.8.8"], b"x-forwarded-for", b"9.9.9.9, 8.8.8.8, 127.0.0.1"),
    ([b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https"], b"x-forwarded-proto", b"https"),
    ([b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Host: public.test"], b"x-forwarded-host", b"public.test"),
    ([b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https"], b"x-forwarded-port", b"443"),
    ([b"X-Forwarded-Port: 8443"], b"x-forwarded-port", b"8443"),
]


@in_each_form
@pytest.mark.parametrize(("lines", "name", "value"), TRUSTED_CASES)
async def test_trusted_proxy(trusting: World, form: Form, lines: list[bytes], name: bytes, value: bytes) -> None:
    """What a configured proxy says of its client is believed and completed."""
    message = await seen(trusting, form.write(get(*lines)))
    assert message.one(name) == value


@in_each_form
async def test_prefix_behind_a_trusted_proxy(trusting: World, form: Form) -> None:
    """A prefix that the proxy in front has taken away stands before ours."""
    message = await seen(trusting, form.write(get(b"X-Forwarded-Prefix: /outer")))
    assert message.one(b"x-forwarded-prefix") == b"/outer" + form.prefix


ANSWERS = family(
    "response headers kept",
    [
        Case("order and duplicates", b"B: 2\r\nA: 1\r\nB: 3\r\n"),
        Case("cookies", b"Set-Cookie: a=1; Secure\r\nSet-Cookie: b=2; HttpOnly\r\n"),
        Case("latin-1", b"X-Name: caf\xe9\r\n"),
        Case("spelling", b'x-LOWER-Upper: v\r\nETag: "x"\r\n'),
        Case("empty values", b"A:\r\nB:\r\nC: 3\r\n"),
        Case("server and date", b"Server: app/1.0\r\nDate: Mon, 23 Nov 2026 06:00:00 GMT\r\n"),
        Case("encoding", b"Content-Encoding: gzip\r\nContent-Type: text/plain\r\nVary: Accept-Encoding\r\n"),
        Case("range", b"Content-Range: bytes 0-1/10\r\nAccept-Ranges: bytes\r\n"),
        Case("security", b"Content-Security-Policy: default-src 'self'; img-src *\r\nX-Frame-Options: DENY\r\n"),
        Case("long value", b"X-Long: " + b"x" * 7000 + b"\r\n"),
        Case("login", b'WWW-Authenticate: Basic realm="x"\r\nWWW-Authenticate: Bearer\r\n'),
        Case("links", b"Link: <a.css>; rel=preload\r\nLink: <b.js>; rel=preload\r\n"),
        Case("CORS", b"Access-Control-Allow-Origin: *\r\n"),
        Case("no blank after the colon", b"A:b\r\n"),
    ],
)


@in_each_form
@every(ANSWERS)
async def test_answer_kept(world: World, case: Case, form: Form) -> None:
    """The sandbox's lines reach the client byte for byte; nothing is added to them."""
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % case.raw)
    client = await world.connect()
    answer = await client.ask(form.write(get()))
    assert answer.raw_head == b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\n" % case.raw


STATUS_LINES = [
    b"200 OK",
    b"200 ",
    b"200",
    b"299 Any Reason",
    b"404 Nicht gefunden \xe9",
    b"500 x",
    b"599 y",
    b"226 IM",
]


@in_each_form
@pytest.mark.parametrize("line", STATUS_LINES)
async def test_status_line(world: World, form: Form, line: bytes) -> None:
    """Status and reason are the sandbox's own."""
    world.backend.reply = Reply(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % line)
    client = await world.connect()
    answer = await client.ask(form.write(get()))
    assert answer.raw_head.startswith(b"HTTP/1.1 %b\r\n" % line)


ANSWER_HOPS = family(
    "response headers removed",
    [
        Case("Connection", b"Connection: keep-alive\r\n"),
        Case("Keep-Alive", b"Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n"),
        Case("Proxy-Connection", b"Proxy-Connection: keep-alive\r\n"),
        Case("Proxy-Authenticate", b"Proxy-Authenticate: Basic\r\n"),
        Case("Upgrade offer", b"Upgrade: h2\r\nConnection: Upgrade\r\n"),
        Case("named by Connection", b"X-Hop: 1\r\nConnection: X-Hop\r\n"),
        Case("several named", b"Connection: x-a, x-b\r\nX-A: 1\r\nX-B: 2\r\n"),
    ],
)


@in_each_form
@every(ANSWER_HOPS)
async def test_answer_removed(world: World, case: Case, form: Form) -> None:
    """Lines about the connection to the sandbox do not travel on to the client."""
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % case.raw)
    client = await world.connect()
    answer = await client.ask(form.write(get()))
    assert answer.raw_head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


REDIRECTS = [b"/login", b"http://gateway.test/login?next=%2Fx", b"//other.test/x", b"relative", b"https://other.test/"]


@in_each_form
@pytest.mark.parametrize("location", REDIRECTS)
async def test_redirects_are_not_followed(world: World, form: Form, location: bytes) -> None:
    """A redirect is the client's business; nobody follows it here."""
    world.backend.reply = Reply(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location)
    client = await world.connect()
    answer = await client.ask(form.write(get()))
    assert answer.status == 302
    assert len(world.backend.seen) == 1


@in_each_form
async def test_no_cookie_jar(world: World, form: Form) -> None:
    """A cookie that one client is given is never sent for another."""
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1\r\nContent-Length: 2\r\n\r\nok")
    for _ in range(2):
        assert b"session" not in (await seen(world, form.write(get()))).raw_head
