"""Link cookies count for the port's own pages and for people, going by what only the browser says."""

from __future__ import annotations

import pytest

from gateway.addressing.own_pages import Asker, asker, is_origin
from gateway.addressing.routing import Router, RoutingConfig
from gateway.http.request_head import parse_request
from gateway.limits import Limits

ROUTER = Router(RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.test"))
FORMS = {
    "host": (b"", b"sb-8080.sandbox.test", b""),
    "uri": (b"/sb/8080", b"gateway.test", b""),
    "proxy": (b"/v1/sandboxes/sb/proxy/8080", b"gateway.test", b""),
    "header": (b"", b"gateway.test", b"OpenSandbox-Ingress-To: sb-8080\r\n"),
}
in_each_form = pytest.mark.parametrize("form", FORMS)
OWN, UNSURE, OTHER = Asker.OWN, Asker.PERSON_OR_FRAME, Asker.OTHER

WINDOW = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
FRAME = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"
IMAGE = b"Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
FETCH = b"Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
PAGE = b"Upgrade-Insecure-Requests: 1\r\nAccept: text/html,*/*;q=0.8\r\n"
PAGE_OF_PORT = b"Referer: http://%(host)b%(page)b/page?x\r\n"
SIBLING_HOST = b"Referer: http://evil-80.sandbox.test/\r\n"
SIBLING_PATH = b"Referer: http://%(host)b/evil/80/\r\n"
OTHER_PORT = b"Referer: http://%(host)b/sb/80/\r\n"


def ask(form: str, lines: bytes, method: bytes = b"GET", scheme: bytes = b"http") -> Asker:
    path, host, extra = FORMS[form]
    page = path or (b"" if form == "host" else b"/sb/8080")
    lines = lines.replace(b"%(host)b", host).replace(b"%(page)b", page)
    head = b"%b %b/x HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (method, path, host, extra, lines)
    request = parse_request(head, Limits())
    address = ROUTER.route(request.target, request.host, request.ingress_to)
    assert address is not None
    return asker(ROUTER, request, address, scheme, host)


def site(value: bytes) -> bytes:
    return b"Sec-Fetch-Site: %b\r\n" % value


@in_each_form
@pytest.mark.parametrize("value", [b"none", b"same-origin", b"same-site", b"cross-site"])
@pytest.mark.parametrize(
    ("method", "lines", "passes"),
    [(b"GET", b"", True), (b"HEAD", b"", True), (b"POST", b"", False), (b"GET", UPGRADE, False)],
)
def test_windows(form: str, value: bytes, method: bytes, lines: bytes, passes: bool) -> None:
    """A person may follow a link from anywhere: a window navigates by GET; nothing else comes from anywhere."""
    if not passes and value in (b"none", b"same-origin"):
        return
    assert (ask(form, site(value) + WINDOW + lines, method) is OWN) is passes


@in_each_form
@pytest.mark.parametrize("value", [b"same-site", b"cross-site", b"", b"unheard-of"])
@pytest.mark.parametrize("kind", [FRAME, IMAGE, FETCH, b""])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_other_sites(form: str, value: bytes, kind: bytes, method: bytes) -> None:
    """Frames, images and calls of another origin's page do not count, whatever else they say."""
    assert ask(form, site(value) + kind + PAGE + PAGE_OF_PORT, method) is OTHER


@in_each_form
@pytest.mark.parametrize("kind", [FRAME, IMAGE, FETCH])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
def test_own_page(form: str, kind: bytes, method: bytes) -> None:
    """Whatever the port's own page asks for counts."""
    assert ask(form, site(b"same-origin") + kind + PAGE_OF_PORT, method) is OWN


@pytest.mark.parametrize("form", ["uri", "proxy", "header"])
@pytest.mark.parametrize("page", [SIBLING_PATH, OTHER_PORT, b"Referer: http://%(host)b/\r\n", b""])
@pytest.mark.parametrize("kind", [FRAME, IMAGE, FETCH])
def test_sibling_of_the_same_origin(form: str, page: bytes, kind: bytes) -> None:
    """In a shared origin the page has to be under the port's prefix."""
    assert ask(form, site(b"same-origin") + kind + page) is OTHER
    assert ask(form, b"Origin: http://%(host)b\r\n" + page, b"POST") is OTHER


def test_page_without_referer() -> None:
    """In the host form the origin is the port's own, so a page may keep its Referer for itself."""
    assert ask("host", site(b"same-origin") + FETCH, b"POST") is OWN


ORIGINS = [
    (b"http://%(host)b", True),
    (b"HTTP://%(host)b", True),
    (b"https://%(host)b", True),
    (b"http://evil-80.sandbox.test", False),
    (b"http://%(host)b.evil.test", False),
    (b"http://%(host)b:81", False),
    (b"null", False),
    (b"", False),
    (b"%(host)b", False),
]


@in_each_form
@pytest.mark.parametrize("request_", [(b"POST", PAGE_OF_PORT), (b"GET", UPGRADE)], ids=["post", "websocket"])
@pytest.mark.parametrize(("origin", "passes"), ORIGINS)
def test_origins(form: str, request_: tuple[bytes, bytes], origin: bytes, passes: bool) -> None:
    """Without fetch metadata, as over plain http, the Origin of a change and of a WebSocket is this one."""
    method, lines = request_
    assert (ask(form, b"Origin: %b\r\n" % origin + lines, method) is OWN) is passes


@in_each_form
@pytest.mark.parametrize(("method", "lines"), [(b"POST", b""), (b"DELETE", b""), (b"GET", UPGRADE)])
def test_nobody_knows(form: str, method: bytes, lines: bytes) -> None:
    """A change or a WebSocket that no browser vouches for does not count."""
    assert ask(form, PAGE + PAGE_OF_PORT + lines, method) is OTHER


@in_each_form
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (PAGE_OF_PORT, OWN),
        (SIBLING_HOST, OTHER),
        (b"", OTHER),
        (PAGE, UNSURE),
        (SIBLING_HOST + PAGE, UNSURE),
        (b"Upgrade-Insecure-Requests: 1\r\nAccept: */*\r\n", OTHER),
        (b"Accept: text/html\r\n", OTHER),
    ],
)
def test_reading_over_plain_http(form: str, lines: bytes, expected: Asker) -> None:
    """Over plain http a page is known by its Referer; a navigation may be a person's, or a frame's."""
    assert ask(form, lines) is expected


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "same"),
    [
        (b"https://a.test", b"https", b"a.test:443", True),
        (b"https://a.test:443", b"https", b"A.test", True),
        (b"http://a.test", b"https", b"a.test", False),
        (b"https://a.test", b"http", b"a.test", True),
        (b"http://a.test:80", b"http", b"a.test", True),
        (b"http://a.test:8080", b"http", b"a.test:8080", True),
        (b"http://a.test:8080", b"http", b"a.test", False),
        (b"http://u@a.test", b"http", b"a.test", False),
        (b"http://a.test/", b"http", b"a.test", False),
        (b"http://[::1]:8080", b"http", b"[::1]:8080", True),
        (b"ws://a.test", b"http", b"a.test", False),
    ],
)
def test_is_origin(origin: bytes, scheme: bytes, host: bytes, same: bool) -> None:
    """Scheme, host and port agree; the ports that go without saying may be said."""
    assert is_origin(origin, scheme, host) is same
