"""What browsers need: signed links that become cookies, and applications that do not know their prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway import signing
from gateway.signing import Signature
from tests.conformance.address import PORT, SANDBOX, Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import World, running
from tests.conformance.wire import Message, Reply

KEYS = {b"k": b"signing-secret"}
TOKEN = b"correct-token"
FAR = 4_102_444_800
GOOD = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, FAR)
LONG = signing.sign_long("k", KEYS[b"k"], SANDBOX, PORT, FAR)
READ_ONLY = signing.sign_long("k", KEYS[b"k"], SANDBOX, PORT, FAR, methods=["GET"], path="/docs")
FORGED = Signature(GOOD.expires, b"00000000k")
EXPIRED = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, 1_000_000_000)
ACCEPT = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
OPEN = b"GET {path}%b HTTP/1.1\r\n{host}\r\n%b\r\n"
SIGNED_FORMS = pytest.mark.parametrize("form", [Form.HOST, Form.URI], ids=["host", "uri"])
PATH_FORMS = pytest.mark.parametrize("form", [Form.PROXY, Form.URI], ids=["proxy", "uri"])
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.fixture
async def secured() -> AsyncIterator[World]:
    """A gateway with keys, and a sandbox that asks for a credential."""
    async with running(World(keys=KEYS)) as made:
        made.put(token=TOKEN)
        yield made


async def browse(world: World, form: Form, target: bytes = b"/x", lines: bytes = ACCEPT, **how: object) -> Message:
    client = await world.connect()
    return await client.ask(form.write(OPEN % (target, lines), **how))  # type: ignore[arg-type]


async def follow(world: World, answer: Message, cookie: bytes = b"", host: bytes = b"gateway.test") -> Message:
    """What a browser asks after a redirect that it has got from `host`."""
    location = answer.one(b"location") or b""
    if location.startswith(b"http://"):
        host, slash, rest = location.removeprefix(b"http://").partition(b"/")
        location = slash + rest
    line = b"Cookie: %b\r\n" % cookie if cookie else b""
    client = await world.connect()
    lines = ACCEPT + b"Upgrade-Insecure-Requests: 1\r\n" + line
    return await client.ask(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (location, host, lines))


def pair(answer: Message) -> bytes:
    return answer.all(b"set-cookie")[0].partition(b";")[0]


async def enter(world: World, form: Form, signature: Signature, target: bytes = b"/x?y=%2F&z") -> Message:
    """Opens a signed link as far as the answer that sets the cookie."""
    answer = await browse(world, form, target, signed=signature)
    if form is Form.HOST:
        assert answer.status == 307
        assert answer.all(b"set-cookie") == []
        answer = await follow(world, answer)
    return answer


@SIGNED_FORMS
@pytest.mark.parametrize("signature", [GOOD, LONG], ids=["short", "long"])
async def test_link(secured: World, form: Form, signature: Signature) -> None:
    """A signed link leads to the page itself, at an address without the signature, which the sandbox never sees."""
    answer = await enter(secured, form, signature)
    assert answer.status == 307
    assert signature.value not in (answer.one(b"location") or b"")
    cookie = b"a=1; " + pair(answer)
    page = await follow(secured, answer, cookie, b"sb-8080.sandbox.test" if form is Form.HOST else b"gateway.test")
    assert (page.status, page.body) == (200, b"ok")
    message = secured.backend.seen[-1]
    assert message.target == b"/x?y=%2F&z"
    assert message.one(b"cookie") == b"a=1"
    assert signature.value not in message.raw_head


@SIGNED_FORMS
async def test_cookie(secured: World, form: Form) -> None:
    """The cookie is out of reach of scripts and other sites, and short-lived."""
    answer = await enter(secured, form, GOOD)
    cookie = answer.all(b"set-cookie")[0]
    for attribute in (b"HttpOnly", b"SameSite=Lax", b"Max-Age=43200", b"Path=/"):
        assert attribute in cookie
    assert answer.one(b"cache-control") == b"no-store"


@SIGNED_FORMS
async def test_link_behind_a_proxy(form: Form) -> None:
    """Where a configured proxy speaks TLS for us the way goes on in TLS, and the cookie stays there."""
    async with running(World(keys=KEYS, trusted=["127.0.0.1"])) as world:
        world.put(token=TOKEN)
        lines = ACCEPT + b"X-Forwarded-Proto: https\r\n"
        answer = await browse(world, form, lines=lines, signed=GOOD)
        if form is Form.HOST:
            location = answer.one(b"location") or b""
            assert location.startswith(b"https://sb-8080.sandbox.test/x?")
            path = location.removeprefix(b"https://sb-8080.sandbox.test")
            client = await world.connect()
            answer = await client.ask(b"GET %b HTTP/1.1\r\nHost: sb-8080.sandbox.test\r\n%b\r\n" % (path, lines))
        cookie = answer.all(b"set-cookie")[0]
        assert b"; Secure" in cookie
        assert cookie.startswith(b"__Host-opensandbox-access-")
        page = own_page(form).replace(b"http:", b"https:") + b"Cookie: %b\r\n" % pair(answer)
        assert (await browse(world, form, lines=page + b"X-Forwarded-Proto: https\r\n")).status == 200
        assert (
            await browse(world, form, lines=page.replace(b"__Host-", b"") + b"X-Forwarded-Proto: https\r\n")
        ).status == 401


@SIGNED_FORMS
@pytest.mark.parametrize("signature", [FORGED, EXPIRED], ids=["forged", "expired"])
async def test_bad_link(secured: World, form: Form, signature: Signature) -> None:
    """A link that does not let in sets no cookie and leads nowhere."""
    answer = await browse(secured, form, signed=signature)
    assert answer.status == 401
    assert answer.all(b"set-cookie") == []


@SIGNED_FORMS
@pytest.mark.parametrize("lines", [b"", b"Accept: application/json\r\n", b"Accept: */*\r\n", ACCEPT + UPGRADE])
async def test_programs(secured: World, form: Form, lines: bytes) -> None:
    """Programs and WebSockets are served at the signed address itself."""
    assert (await browse(secured, form, lines=lines, signed=GOOD)).status == 200
    assert len(secured.backend.seen) == 1


async def test_post_to_a_link(secured: World) -> None:
    """Only opening a page is turned into a cookie; a form that is sent to a signed address is served."""
    client = await secured.connect()
    raw = b"POST {path}/x HTTP/1.1\r\n{host}\r\n%bContent-Length: 2\r\n\r\nhi" % ACCEPT
    assert (await client.ask(Form.URI.write(raw, signed=GOOD))).status == 200


COOKIE = b"Cookie: opensandbox-access-sb-8080=%b-%b\r\n"


def own_page(form: Form) -> bytes:
    """What a browser says of a request that the port's own page makes it send."""
    prefix = Form.URI.prefix if form is Form.HEADER else form.prefix
    return b"Origin: http://%b\r\nReferer: http://%b%b/page\r\n" % (form.host, form.host, prefix)


@in_each_form
@pytest.mark.parametrize("lines", [b"", UPGRADE], ids=["request", "websocket"])
@pytest.mark.parametrize(
    ("signature", "status"),
    [(GOOD, 200), (LONG, 200), (FORGED, 401), (EXPIRED, 401)],
    ids=["short", "long", "forged", "old"],
)
async def test_cookie_lets_in(secured: World, form: Form, lines: bytes, signature: Signature, status: int) -> None:
    """The cookie is as good as the signature it holds, in every form."""
    line = COOKIE % (signature.expires, signature.value)
    assert (await browse(secured, form, lines=line + lines + own_page(form))).status == status


@in_each_form
@pytest.mark.parametrize("lines", [b"", UPGRADE], ids=["request", "websocket"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_cookie_of_a_siblings_page(secured: World, form: Form, lines: bytes, method: bytes) -> None:
    """The cookie does not count for what another sandbox's page makes the browser send; the answer says what does."""
    line = COOKIE % (GOOD.expires, GOOD.value) + lines
    sibling = b"Origin: http://evil-80.sandbox.test\r\nReferer: http://evil-80.sandbox.test/\r\n"
    client = await secured.connect()
    answer = await client.ask(form.write(OPEN % (b"/x", line + sibling)).replace(b"GET", method, 1))
    assert answer.status == 401
    assert b"The cookie of a signed link lets in people who open an address" in answer.body
    assert secured.backend.seen == []


@in_each_form
async def test_what_may_be_a_frame(secured: World, form: Form) -> None:
    """Where a browser does not tell a frame of another page from a window, the answer forbids the frame."""
    line = COOKIE % (GOOD.expires, GOOD.value) + b"Upgrade-Insecure-Requests: 1\r\n"
    for more, guarded in ((b"", [b"frame-ancestors 'self'"]), (own_page(form), [])):
        answer = await browse(secured, form, lines=ACCEPT + line + more)
        assert (answer.status, answer.all(b"content-security-policy")) == (200, guarded)


@SIGNED_FORMS
@pytest.mark.parametrize(
    ("own", "sent"),
    [
        (b"", [b"same-origin"]),
        (b"Referrer-Policy: unsafe-url\r\n", [b"unsafe-url", b"same-origin"]),
        (b"Referrer-Policy: No-Referrer\r\n", [b"No-Referrer"]),
    ],
)
async def test_signature_does_not_travel(secured: World, form: Form, own: bytes, sent: list[bytes]) -> None:
    """What is served at a signed address itself tells no other site where it came from; the last policy counts."""
    secured.backend.reply = Reply(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % own)
    answer = await browse(secured, form, lines=b"Accept: text/css\r\n", signed=GOOD)
    assert answer.all(b"referrer-policy") == sent


async def test_signature_in_a_query_does_not_travel(secured: World) -> None:
    """Likewise on the way from a signed host to its clean address."""
    target = b"/x?opensandbox-enter=%b-%b" % (GOOD.expires, GOOD.value)
    assert (await browse(secured, Form.HOST, target, b"")).all(b"referrer-policy") == [b"same-origin"]


async def test_other_answers_keep_their_policy(secured: World) -> None:
    """An address without a signature is nobody's secret."""
    for lines in (
        COOKIE % (GOOD.expires, GOOD.value) + own_page(Form.HOST),
        b"OpenSandbox-Secure-Access: %b\r\n" % TOKEN,
    ):
        assert (await browse(secured, Form.HOST, lines=lines)).all(b"referrer-policy") == []


@in_each_form
async def test_cookie_and_wrong_token(secured: World, form: Form) -> None:
    """A wrong token is not saved by a good cookie."""
    line = COOKIE % (GOOD.expires, GOOD.value) + b"OpenSandbox-Secure-Access: wrong\r\n"
    assert (await browse(secured, form, lines=line)).status == 401


@in_each_form
async def test_cookie_of_another_port(secured: World, form: Form) -> None:
    """A cookie is for one port of one sandbox."""
    other = signing.sign("k", KEYS[b"k"], SANDBOX, 8081, FAR)
    line = b"Cookie: opensandbox-access-sb-8081=%b-%b\r\n" % (other.expires, other.value)
    assert (await browse(secured, form, lines=line)).status == 401


@in_each_form
@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"a=1", [b"a=1"]),
        (b"opensandbox-access-sb-8080=x", []),
        (b"opensandbox-access-other-1=x; a=1; opensandbox-last=/sb/8080; b=2", [b"a=1; b=2"]),
    ],
)
async def test_our_cookies_stay_here(world: World, form: Form, sent: bytes, seen: list[bytes]) -> None:
    """No sandbox sees a cookie of ours, whether it asks for credentials or not."""
    assert (await browse(world, form, lines=b"Cookie: %b\r\n" % sent)).status == 200
    assert world.backend.seen[0].all(b"cookie") == seen


@in_each_form
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [(b"GET", b"/docs/x", 200), (b"POST", b"/docs/x", 401), (b"GET", b"/docs/../x", 401)],
)
async def test_bound_signature(secured: World, form: Form, method: bytes, target: bytes, status: int) -> None:
    """A signature that is bound lets in where it is bound to and nowhere else."""
    line = COOKIE % (READ_ONLY.expires, READ_ONLY.value)
    raw = form.write(OPEN % (target, line + own_page(form))).replace(b"GET", method, 1)
    client = await secured.connect()
    assert (await client.ask(raw)).status == status


@SIGNED_FORMS
async def test_guessing(secured: World, form: Form) -> None:
    """Guessing short signatures is throttled; the token and long signatures still let in."""
    client = await secured.connect()
    statuses = [(await client.ask(form.write(OPEN % (b"/x", b""), signed=FORGED))).status for _ in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    refused = await client.ask(form.write(OPEN % (b"/x", b""), signed=GOOD))
    assert refused.status == 429
    assert refused.one(b"retry-after") is not None
    assert (await client.ask(form.write(OPEN % (b"/x", b""), signed=LONG))).status == 200
    token = b"OpenSandbox-Secure-Access: %b\r\n" % TOKEN
    assert (await client.ask(form.write(OPEN % (b"/x", token)))).status == 200


# Applications that do not know their prefix.


LEADS = [
    (b"Location: /login?x", b"Location: %b/login?x"),
    (b"location: http://gateway.test/login", b"location: http://gateway.test%b/login"),
    (b"Content-Location: /x", b"Content-Location: %b/x"),
    (b"Refresh: 0; url=/x", b"Refresh: 0; url=%b/x"),
    (b"Link: </a.css>; rel=preload", b"Link: <%b/a.css>; rel=preload"),
    (b"Set-Cookie: a=1; Path=/; HttpOnly", b"Set-Cookie: a=1; Path=%b; HttpOnly"),
    (b"Set-Cookie: a=1; Path=/x", b"Set-Cookie: a=1; Path=%b/x"),
]
LEADS_NOWHERE = [b"Location: x", b"Location: https://other.test/", b"X-Location: /x", b"Set-Cookie: a=1"]


def answering(line: bytes) -> Reply:
    return Reply(b"HTTP/1.1 302 Found\r\n%b\r\nContent-Length: 0\r\n\r\n" % line)


@PATH_FORMS
@pytest.mark.parametrize(("line", "expected"), LEADS)
async def test_what_leads_out(world: World, form: Form, line: bytes, expected: bytes) -> None:
    """What would lead out of the prefix leads back into it."""
    world.backend.reply = answering(line)
    answer = await browse(world, form)
    assert answer.lines[0] == expected % form.prefix


@in_each_form
@pytest.mark.parametrize("line", LEADS_NOWHERE)
async def test_what_leads_elsewhere(world: World, form: Form, line: bytes) -> None:
    """What leads elsewhere stays byte for byte."""
    world.backend.reply = answering(line)
    assert (await browse(world, form)).lines[0] == line


@pytest.mark.parametrize("form", [Form.HEADER, Form.HOST], ids=["header", "host"])
@pytest.mark.parametrize("line", [line for line, _ in LEADS])
async def test_without_prefix(world: World, form: Form, line: bytes) -> None:
    """Where no prefix was taken away nothing is changed."""
    world.backend.reply = answering(line)
    assert (await browse(world, form)).lines[0] == line


@PATH_FORMS
@pytest.mark.parametrize(("rest", "location"), [(b"", b"%b/"), (b"?q=/", b"%b/?q=/")])
async def test_slash(world: World, form: Form, rest: bytes, location: bytes) -> None:
    """A browser is sent to the address with a slash; a program gets what is there."""
    answer = await browse(world, form, rest)
    assert (answer.status, answer.one(b"location")) == (307, location % form.prefix)
    assert world.backend.seen == []
    assert (await browse(world, form, rest, b"")).status == 200


@PATH_FORMS
@pytest.mark.parametrize("target", [b"/static/app.js?v=1", b"/src/main.js", b"/a/80/b", b"/docs", b"/"])
async def test_page_asks_for_the_root(world: World, form: Form, target: bytes) -> None:
    """What a page under a prefix asks of the root is its own, whatever else the path could mean."""
    client = await world.connect()
    referer = b"Referer: http://gateway.test%b/page\r\n" % form.prefix
    answer = await client.ask(b"GET %b HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n" % (target, referer))
    assert (answer.status, answer.one(b"location")) == (307, form.prefix + target)


@PATH_FORMS
@pytest.mark.parametrize("page", [b"/", b"/project/settings"])
@pytest.mark.parametrize("target", [b"/project/translations", b"/a.js", b"/a/80/b"])
async def test_page_that_replaced_its_address(world: World, form: Form, page: bytes, target: bytes) -> None:
    """A page whose address names no sandbox any more, by the history API, is found by the cookie of the last one."""
    lines = b"Referer: http://gateway.test%b\r\nCookie: opensandbox-last=%b\r\n" % (page, form.prefix)
    client = await world.connect()
    answer = await client.ask(b"GET %b HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n" % (target, lines))
    assert (answer.status, answer.one(b"location")) == (307, form.prefix + target)


@PATH_FORMS
@pytest.mark.parametrize("host", [b"other.test", b"gateway.test:81"])
async def test_page_of_another_host(world: World, form: Form, host: bytes) -> None:
    """A page of another host says nothing about ours."""
    client = await world.connect()
    referer = b"Referer: http://%b%b/page\r\n" % (host, form.prefix)
    answer = await client.ask(b"GET /static/app.js HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n" % referer)
    assert answer.status in (400, 404)


@PATH_FORMS
async def test_websocket_of_a_page(world: World, form: Form) -> None:
    """A WebSocket to the root is connected to the application that the browser was at last."""
    cookie = b"Cookie: opensandbox-last=%b\r\n" % form.prefix
    client = await world.connect()
    await client.ask(b"GET /websockify HTTP/1.1\r\nHost: gateway.test\r\n%b%b\r\n" % (cookie, UPGRADE))
    message = world.backend.seen[0]
    assert (message.target, message.one(b"upgrade"), message.one(b"cookie")) == (b"/websockify", b"websocket", None)
    assert message.one(b"x-forwarded-prefix") == form.prefix


@PATH_FORMS
async def test_pages_leave_a_mark(world: World, form: Form) -> None:
    """A page under a prefix leaves the cookie that its WebSockets are found by; other answers leave none."""
    world.backend.replies = [
        Reply(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 2\r\n\r\nok"),
        Reply(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
    ]
    marks = [(await browse(world, form)).all(b"set-cookie") for _ in range(2)]
    assert [mark.partition(b";")[0] for mark in marks[0]] == [b"opensandbox-last=" + form.prefix]
    assert marks[1] == []


# What holds for a whole origin, and cookies on answers of every kind.


SHARED_FORMS = pytest.mark.parametrize("form", [Form.HEADER, Form.PROXY, Form.URI], ids=["header", "proxy", "uri"])
FINAL = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok"
EARLY = b"HTTP/1.1 103 Early Hints\r\n%b\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b\r\n"
KINDS = pytest.mark.parametrize("kind", [FINAL, EARLY, SWITCH], ids=["200", "103", "101"])
ORIGIN_WIDE = b'Clear-Site-Data: "cookies"\r\nAlt-Svc: h2=":9"\r\nStrict-Transport-Security: max-age=9\r\nNEL: {}\r\n'


async def heads(world: World, form: Form, kind: bytes, lines: bytes, target: bytes = b"/x", more: bytes = b"") -> bytes:
    """Whatever a client gets in heads for an answer of this kind with these lines."""
    world.backend.reply = Reply(kind % lines)
    client = await world.connect()
    await client.send(form.write(OPEN % (target, more + (UPGRADE if kind is SWITCH else b""))))
    return await client.until(b"Connection: Upgrade" if kind is SWITCH else b"\r\n\r\nok")


@SHARED_FORMS
@KINDS
async def test_shared_origin(world: World, form: Form, kind: bytes) -> None:
    """Where sandboxes share an origin none says what holds for all of it, with whatever status."""
    got = await heads(world, form, kind, ORIGIN_WIDE + b"X-Accel-Redirect: /etc\r\nA: 1\r\n")
    assert b"A: 1" in got
    for name in (b"Clear-Site-Data", b"Alt-Svc", b"Strict-Transport-Security", b"NEL", b"X-Accel-Redirect"):
        assert name not in got


@KINDS
async def test_origin_of_its_own(world: World, kind: bytes) -> None:
    """In the host form a sandbox says what it likes of its own origin; orders to proxies and the site are withheld."""
    got = await heads(world, Form.HOST, kind, ORIGIN_WIDE + b"X-Accel-Redirect: /etc\r\n")
    for name, passes in ((b"Alt-Svc", True), (b"NEL", True), (b"Clear-Site-Data", False), (b"X-Accel", False)):
        assert (name in got) is passes


@PATH_FORMS
@KINDS
async def test_cookies_are_confined(world: World, form: Form, kind: bytes) -> None:
    """Cookies and links are brought under the prefix in answers of every kind."""
    got = await heads(world, form, kind, b"Set-Cookie: a=1; Path=/\r\nLink: </a.css>; rel=preload\r\n")
    assert b"Set-Cookie: a=1; Path=%b\r\n" % form.prefix in got
    assert b"Link: <%b/a.css>; rel=preload\r\n" % form.prefix in got


@PATH_FORMS
@pytest.mark.parametrize("lines", [b"", b"Service-Worker-Allowed: /\r\n", b"service-worker-allowed: /sb/8080/..\r\n"])
async def test_scope_of_workers(world: World, form: Form, lines: bytes) -> None:
    """A service worker gets no scope beyond the prefix, whatever the sandbox says it may have."""
    got = await heads(world, form, FINAL, lines, b"/sw.js", b"Service-Worker: script\r\n")
    scopes = [line for line in got.split(b"\r\n") if line.lower().startswith(b"service-worker-allowed")]
    assert scopes == ([b"Service-Worker-Allowed: %b/" % form.prefix] if lines else [])


@PATH_FORMS
async def test_worker_from_the_root(world: World, form: Form) -> None:
    """A worker loaded from the root by a page is held to the page's prefix, and so is a cookie without a path."""
    world.backend.reply = Reply(FINAL % b"Set-Cookie: a=1\r\n")
    client = await world.connect()
    lines = b"Service-Worker: script\r\nReferer: http://gateway.test%b/page\r\n" % form.prefix
    answer = await client.ask(b"GET /sw.js HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n" % lines)
    assert (answer.status, answer.one(b"service-worker-allowed")) == (200, form.prefix + b"/")
    assert answer.one(b"set-cookie") == b"a=1; Path=" + form.prefix


@in_each_form
async def test_trailers_say_no_more(world: World, form: Form) -> None:
    """What may not be said in the head may not be said behind the body."""
    body = b'2\r\nok\r\n0\r\nClear-Site-Data: "*"\r\nX-Accel-Redirect: /x\r\nNEL: {}\r\nA: 1\r\n\r\n'
    world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    client = await world.connect()
    await client.send(form.write(OPEN % (b"/x", b"")))
    got = await client.until(b"\r\nA: 1\r\n\r\n")
    assert got.endswith(b"\r\n0\r\nA: 1\r\n\r\n")
