"""Where a request goes, seen from outside: addresses, credentials and states, in all four forms."""

from __future__ import annotations

import json
import time

import pytest

from gateway import signing
from gateway.signing import Signature
from gateway.table import Removal, RouteState
from tests.conformance.address import FORMS, PORT, SANDBOX, Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import API_HOST, World, running
from tests.conformance.wire import Message

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
TOKEN = b"correct-token"
KEYS = {b"k": b"signing-secret"}
FAR = 4_102_444_800


async def ask(world: World, raw: bytes) -> Message:
    client = await world.connect()
    return await client.ask(raw)


def code(answer: Message) -> str:
    return str(json.loads(answer.body)["code"])


def plain(target: bytes, *lines: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (target, b"\r\n".join(lines))


TO = b"OpenSandbox-Ingress-To: "
OLD = b"OPEN-SANDBOX-INGRESS: "
API = b"Host: " + API_HOST
HOST = b"Host: gateway.test"

WRONG = family(
    "malformed addresses",
    [
        Case("header: empty", plain(b"/", HOST, TO), 400),
        Case("header: no port", plain(b"/", HOST, TO + b"sb"), 400),
        Case("header: leading zero", plain(b"/", HOST, TO + b"sb-08080"), 400),
        Case("header: port 0", plain(b"/", HOST, TO + b"sb-0"), 400),
        Case("header: port 65536", plain(b"/", HOST, TO + b"sb-65536"), 400),
        Case("header: signed port", plain(b"/", HOST, TO + b"sb-+80"), 400),
        Case("header: an address", plain(b"/", HOST, TO + b"127.0.0.1:8080"), 400),
        Case("header: path behind it", plain(b"/", HOST, TO + b"sb-8080/x"), 400),
        Case("header: list", plain(b"/", HOST, TO + b"sb-8080, sb-8080"), 400),
        Case("header: latin-1", plain(b"/", HOST, TO + b"s\xe9-8080"), 400),
        Case("header: very long", plain(b"/", HOST, TO + b"s" * 3000 + b"-8080"), 400),
        Case("header: bad signature", plain(b"/", HOST, TO + b"sb-8080-0-0123"), 400),
        Case("header: over a good host", plain(b"/", b"Host: sb-8080.sandbox.test", TO + b"x"), 400),
        Case("header: over a good path", plain(b"/sb/8080/", HOST, TO + b"x"), 400),
        Case("header: over the API", plain(b"/v1/sandboxes", API, TO + b"x"), 400),
        Case("header: twice", plain(b"/", HOST, TO + b"sb-8080", TO + b"sb-8080"), 400),
        Case("header: twice, different", plain(b"/", HOST, TO + b"sb-8080", TO + b"sc-8080"), 400),
        Case("old header: no port", plain(b"/", HOST, OLD + b"sb"), 400),
        Case("both headers, different", plain(b"/", HOST, TO + b"sb-8080", OLD + b"sc-8080"), 400),
        Case("host: no port", plain(b"/", b"Host: sb.sandbox.test"), 400),
        Case("host: leading zero", plain(b"/", b"Host: sb-08080.sandbox.test"), 400),
        Case("host: two labels", plain(b"/", b"Host: a.sb-8080.sandbox.test"), 400),
        Case("host: for the API's path", plain(b"/v1/sandboxes", b"Host: www.sandbox.test"), 400),
        Case("host: over a good path", plain(b"/sb/8080/", b"Host: www.sandbox.test"), 400),
        Case("proxy: no port", plain(b"/sandboxes/sb/proxy/", HOST), 400),
        Case("proxy: nothing behind", plain(b"/sandboxes/sb/proxy", HOST), 400),
        Case("proxy: letters", plain(b"/sandboxes/sb/proxy/8a/", HOST), 400),
        Case("proxy: encoded port", plain(b"/sandboxes/sb/proxy/%38080/", HOST), 400),
        Case("proxy: encoded slash", plain(b"/sandboxes/sb/proxy/8080%2Fx", HOST), 400),
        Case("proxy: dots for an id", plain(b"/sandboxes/../proxy/8080/", HOST), 400),
        Case("uri: leading zero", plain(b"/sb/08080/", HOST), 400),
        Case("uri: letters", plain(b"/sb/port/", HOST), 400),
        Case("uri: encoded slash", plain(b"/sb%2F8080/x/", HOST), 400),
        Case("uri: no id", plain(b"//8080/x", HOST), 400),
        Case("uri: dots", plain(b"/../8080/", HOST), 400),
    ],
)


@every(WRONG)
async def test_malformed(world: World, case: Case) -> None:
    """A malformed address is refused, whatever else in the request would lead to a sandbox."""
    answer = await ask(world, case.raw)
    assert answer.status == case.status
    assert code(answer) in ("GATEWAY::INVALID_ROUTE", "GATEWAY::BAD_REQUEST")
    assert world.backend.connections == 0


RIGHT = family(
    "well-formed addresses",
    [
        Case("header", plain(b"/x?y", HOST, TO + b"sb-8080"), saw=b"/x?y"),
        Case("header: over the API", plain(b"/v1/sandboxes", API, TO + b"sb-8080"), saw=b"/v1/sandboxes"),
        Case("header: over another host", plain(b"/x", b"Host: sc-1.sandbox.test", TO + b"sb-8080"), saw=b"/x"),
        Case("header: over another path", plain(b"/sc/1/x", HOST, TO + b"sb-8080"), saw=b"/sc/1/x"),
        Case("header: blanks around", plain(b"/x", HOST, TO + b" \tsb-8080  "), saw=b"/x"),
        Case("header: whole address", plain(b"/x", HOST, TO + b"https://sb-8080.sandbox.test:8443"), saw=b"/x"),
        Case("old header", plain(b"/x", HOST, OLD + b"sb-8080"), saw=b"/x"),
        Case("both headers, the same", plain(b"/x", HOST, TO + b"sb-8080", OLD + b"sb-8080"), saw=b"/x"),
        Case("host", plain(b"/x?y", b"Host: sb-8080.sandbox.test"), saw=b"/x?y"),
        Case("host: capitals", plain(b"/x", b"Host: SB-8080.Sandbox.TEST"), saw=b"/x"),
        Case("host: port", plain(b"/x", b"Host: sb-8080.sandbox.test:8443"), saw=b"/x"),
        Case("host: trailing dot", plain(b"/x", b"Host: sb-8080.sandbox.test."), saw=b"/x"),
        Case("host: over another path", plain(b"/sc/1/x", b"Host: sb-8080.sandbox.test"), saw=b"/sc/1/x"),
        Case(
            "host: over the proxy path",
            plain(b"/sandboxes/sc/proxy/1", b"Host: sb-8080.sandbox.test"),
            saw=b"/sandboxes/sc/proxy/1",
        ),
        Case("proxy", plain(b"/sandboxes/sb/proxy/8080/x?y", HOST), saw=b"/x?y"),
        Case("proxy: version", plain(b"/v1/sandboxes/sb/proxy/8080/x?y", HOST), saw=b"/x?y"),
        Case("proxy: nothing behind", plain(b"/sandboxes/sb/proxy/8080", HOST), saw=b"/"),
        Case("proxy: only a query", plain(b"/sandboxes/sb/proxy/8080?y", HOST), saw=b"/?y"),
        Case("proxy: on the API's host", plain(b"/sandboxes/sb/proxy/8080/x", API), saw=b"/x"),
        Case("uri", plain(b"/sb/8080/x?y", HOST), saw=b"/x?y"),
        Case("uri: nothing behind", plain(b"/sb/8080", HOST), saw=b"/"),
        Case("uri: only a query", plain(b"/sb/8080?y", HOST), saw=b"/?y"),
        Case("uri: looks signed", plain(b"/sb/8080/1a2b3c/01234567a/x", HOST), saw=b"/1a2b3c/01234567a/x"),
    ],
)


@every(RIGHT)
async def test_well_formed(world: World, case: Case) -> None:
    """The header decides over the host, the host over the path, and the rest of the target is the sandbox's."""
    assert (await ask(world, case.raw)).status == 200
    assert [message.target for message in world.backend.seen] == [case.saw]


NOBODY = family(
    "requests for nobody",
    [
        Case("unknown id by header", plain(b"/", HOST, TO + b"sc-8080"), 404),
        Case("unknown id by host", plain(b"/", b"Host: sc-8080.sandbox.test"), 404),
        Case("unknown id by proxy path", plain(b"/sandboxes/sc/proxy/8080/", HOST), 404),
        Case("unknown id by uri", plain(b"/sc/8080/", HOST), 404),
        Case("other case of the id", plain(b"/SB/8080/", HOST), 404),
        Case("port that leads nowhere, by header", plain(b"/", HOST, TO + b"sb-8081"), 504),
        Case("port that leads nowhere, by host", plain(b"/", b"Host: sb-8081.sandbox.test"), 504),
        Case("port that leads nowhere, by proxy path", plain(b"/sandboxes/sb/proxy/8081/", HOST), 504),
        Case("port that leads nowhere, by uri", plain(b"/sb/8081/", HOST), 504),
    ],
)


@every(NOBODY)
async def test_nobody(world: World, case: Case) -> None:
    """An address that leads nowhere is told apart from a malformed one."""
    assert (await ask(world, case.raw)).status == case.status


@in_each_form
async def test_connection_refused(world: World, form: Form) -> None:
    """A port that nobody listens on is 504, not 502: clients of the platform retry that soon."""
    await world.backend.stop()
    answer = await ask(world, form.write(GET))
    assert (answer.status, code(answer)) == (504, "GATEWAY::PORT_NOT_LISTENING")
    assert b"127.0.0.1:" not in answer.body


STATES = [
    (RouteState.STARTING, 503, "GATEWAY::SANDBOX_STARTING", b"1"),
    (RouteState.PAUSED, 409, "GATEWAY::SANDBOX_PAUSED", None),
    (RouteState.STOPPED, 409, "GATEWAY::SANDBOX_STOPPED", None),
]


@in_each_form
@pytest.mark.parametrize(("state", "status", "name", "wait"), STATES)
async def test_state(world: World, form: Form, state: RouteState, status: int, name: str, wait: bytes | None) -> None:
    """A sandbox that cannot answer is answered for, with a code of its own."""
    world.put(state=state)
    answer = await ask(world, form.write(GET))
    assert (answer.status, code(answer), answer.one(b"retry-after")) == (status, name, wait)


@in_each_form
@pytest.mark.parametrize("state", [RouteState.STARTING, RouteState.PAUSED, RouteState.STOPPED])
async def test_state_is_told_after_the_credential(world: World, form: Form, state: RouteState) -> None:
    """Who may not enter does not learn the state."""
    world.put(state=state, token=TOKEN)
    assert (await ask(world, form.write(GET))).status == 401


@in_each_form
@pytest.mark.parametrize(
    ("reason", "status", "name"),
    [(Removal.DELETED, 410, "GATEWAY::SANDBOX_DELETED"), (Removal.EXPIRED, 410, "GATEWAY::SANDBOX_EXPIRED")],
)
async def test_removed(world: World, form: Form, reason: Removal, status: int, name: str) -> None:
    """A sandbox that was there and is gone is told apart from one that never was."""
    world.table.remove(SANDBOX, reason)
    answer = await ask(world, form.write(GET))
    assert (answer.status, code(answer)) == (status, name)


@in_each_form
async def test_page_for_people(world: World, form: Form) -> None:
    """A browser is shown a page that comes back by itself."""
    world.put(state=RouteState.STARTING)
    raw = form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\n\r\n")
    answer = await ask(world, raw)
    assert answer.one(b"content-type") == b"text/html; charset=utf-8"
    assert b'http-equiv="refresh"' in answer.body


@in_each_form
async def test_request_id_of_an_error(world: World, form: Form) -> None:
    """An answer of our own carries the request's id."""
    raw = form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nX-Request-ID: client-id\r\n\r\n", id="other")
    assert (await ask(world, raw)).one(b"x-request-id") == b"client-id"


# The platform's matrix of credentials. Each row: name, the sandbox's token, are there keys, header, signature, status.

GOOD = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, FAR)
FORGED = Signature(GOOD.expires, b"00000000k")
EXPIRED = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, int(time.time()) - 10)
FOREVER = signing.sign("k", KEYS[b"k"], SANDBOX, PORT, signing.MAX_EXPIRES)
OTHER_KEY = signing.sign("x", KEYS[b"k"], SANDBOX, PORT, FAR)
OTHER_PORT = signing.sign("k", KEYS[b"k"], SANDBOX, 8081, FAR)
OTHER_ID = signing.sign("k", KEYS[b"k"], "sc", PORT, FAR)
OPEN, SECURED = None, TOKEN

Row = tuple[str, bytes | None, bool, bytes | None, Signature | None, int]
MATRIX: list[Row] = [
    ("A1 open", OPEN, True, None, None, 200),
    ("A2 open, noise", OPEN, True, b"noise", None, 200),
    ("A2 open, empty header", OPEN, True, b"", None, 200),
    ("A3-A5 open, signed", OPEN, True, None, FORGED, 200),
    ("A6 open, signed and noise", OPEN, True, b"noise", GOOD, 200),
    ("A7 secured, nothing", SECURED, True, None, None, 401),
    ("A7 secured, nothing, no keys", SECURED, False, None, None, 401),
    ("A8 right token", SECURED, True, TOKEN, None, 200),
    ("A8 right token, no keys", SECURED, False, TOKEN, None, 200),
    ("A9 wrong token", SECURED, True, b"wrong", None, 401),
    ("A10 empty token", SECURED, True, b"", None, 401),
    ("A11 signature", SECURED, True, None, GOOD, 200),
    ("A12 signature, wrong token", SECURED, True, b"wrong", GOOD, 401),
    ("A13 forged", SECURED, True, None, FORGED, 401),
    ("A14 forged, right token", SECURED, True, TOKEN, FORGED, 200),
    ("A15 no keys", SECURED, False, None, GOOD, 503),
    ("A16 expired", SECURED, True, None, EXPIRED, 401),
    ("A17 unknown key", SECURED, True, None, OTHER_KEY, 401),
    ("A18 latest expiry", SECURED, True, None, FOREVER, 200),
    ("signed for another port", SECURED, True, None, OTHER_PORT, 401),
    ("signed for another sandbox", SECURED, True, None, OTHER_ID, 401),
]


IN_FORMS = [(form, *row) for row in MATRIX for form in FORMS if form is not Form.PROXY or row[4] is None]
"""The proxy path is the API's own and cannot be signed."""


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"], ids=["", "websocket"])
@pytest.mark.parametrize(
    ("form", "row"),
    [(row[0], row[1:]) for row in IN_FORMS],
    ids=[f"{row[1]}-{row[0].name.lower()}" for row in IN_FORMS],
)
async def test_matrix(form: Form, row: Row, upgrade: bytes) -> None:
    """Who may enter, in every form, by request and by WebSocket handshake."""
    _, token, keys, header, signature, status = row
    async with running(World(keys=KEYS if keys else None)) as world:
        world.put(token=token)
        lines = upgrade if header is None else b"OpenSandbox-Secure-Access: %b\r\n%b" % (header, upgrade)
        raw = form.write(b"GET {path}/p/q HTTP/1.1\r\n{host}\r\n%b\r\n" % lines, signed=signature)
        assert (await ask(world, raw)).status == status
        if status == 200:
            assert [message.target for message in world.backend.seen] == [expected(form, token, signature)]
        else:
            assert world.backend.connections == 0


def expected(form: Form, token: bytes | None, signature: Signature | None) -> bytes:
    """In the uri form two segments that no credential was asked in belong to the path."""
    if form is Form.URI and token is None and signature is not None:
        return b"/%b/%b/p/q" % (signature.expires, signature.value)
    return b"/p/q"


KEY_LINE = b"OPEN-SANDBOX-API-KEY: api-key\r\n"


@in_each_form
async def test_token_stays_here(world: World, form: Form) -> None:
    """A sandbox never sees the token it was entered with, or the key of the API."""
    world.put(token=TOKEN)
    lines = b"OpenSandbox-Secure-Access: %b\r\n%b" % (TOKEN, KEY_LINE)
    assert (await ask(world, form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n" % lines))).status == 200
    head = world.backend.seen[0].raw_head
    assert [secret for secret in (TOKEN, b"api-key") if secret in head] == []


async def test_signature_in_a_header_stays_here() -> None:
    """A signature in the routing header goes no further; in a host or a path it is part of the public address."""
    async with running(World(keys=KEYS)) as world:
        world.put(token=TOKEN)
        assert (await ask(world, Form.HEADER.write(GET, signed=GOOD))).status == 200
        assert GOOD.value not in world.backend.seen[0].raw_head


@pytest.mark.parametrize("form", FORMS)
async def test_two_tokens(world: World, form: Form) -> None:
    """Two tokens in one request are one too many."""
    world.put(token=TOKEN)
    line = b"OpenSandbox-Secure-Access: %b\r\n" % TOKEN
    assert (await ask(world, form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n" % (line * 2)))).status == 400
