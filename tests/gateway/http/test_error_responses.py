"""Our own answers: whole, exact, and safe to show."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import h11
import pytest

from gateway.errors import (
    AccessDenied,
    BadRequest,
    GatewayError,
    PortNotListening,
    SandboxNotFound,
    SandboxStarting,
    every_error,
)
from gateway.http.error_responses import prefers_html, redirect, render

REQUEST_ID = b"req-1"
HOSTILE = "<script>alert(1)</script>&\"'{title}%s"


def parse(data: bytes, method: bytes = b"GET") -> tuple[h11.Response, bytes]:
    """Reads one answer with another implementation; the whole of it has to be consumed."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target=b"/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    response, body = connection.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data[0] == b""
    return response, body


def answer(error: GatewayError, *, html: bool = False, close: bool = False) -> tuple[dict[bytes, bytes], bytes]:
    response, body = parse(render(error, html=html, head=False, request_id=REQUEST_ID, close=close))
    assert len(dict(response.headers)) == len(list(response.headers))
    return dict(response.headers), body


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_answer_is_whole(kind: type[GatewayError], html: bool) -> None:
    """Each failure renders to one valid response with its status, id and protection."""
    response, body = parse(render(kind(), html=html, head=False, request_id=REQUEST_ID, close=False))
    headers = dict(response.headers)
    assert response.status_code == kind.status
    assert headers[b"content-length"] == b"%d" % len(body)
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"x-request-id"] == REQUEST_ID
    assert (b"retry-after" in headers) == (kind.wait is not None)
    assert (headers.get(b"connection") == b"close") == kind.closes


def test_envelope() -> None:
    """Programs get code and message as JSON."""
    headers, body = answer(SandboxNotFound())
    assert headers[b"content-type"] == b"application/json"
    assert json.loads(body) == {"code": SandboxNotFound.code, "message": SandboxNotFound.default}


def test_retry_after() -> None:
    """The raiser's waiting time is announced in whole seconds."""
    headers, _ = answer(SandboxStarting(retry_after=7))
    assert headers[b"retry-after"] == b"7"


@pytest.mark.parametrize(("close", "announced"), [(True, True), (False, False)])
def test_close(close: bool, announced: bool) -> None:
    """The end of the connection is announced when it is asked for."""
    headers, _ = answer(SandboxNotFound(), close=close)
    assert (headers.get(b"connection") == b"close") == announced


def test_challenge() -> None:
    """A 401 names the scheme, as HTTP asks, without a login dialogue in browsers."""
    headers, _ = answer(AccessDenied())
    assert headers[b"www-authenticate"].startswith(b"OpenSandbox-Secure-Access")


@pytest.mark.parametrize("html", [False, True])
def test_head(html: bool) -> None:
    """The answer to a HEAD has the head of the GET and no body."""
    full = render(BadRequest(), html=html, head=False, request_id=REQUEST_ID, close=False)
    bare = render(BadRequest(), html=html, head=True, request_id=REQUEST_ID, close=False)
    assert full.startswith(bare)
    assert bare.endswith(b"\r\n\r\n")
    assert parse(bare, b"HEAD")[1] == b""


@pytest.mark.parametrize("close", [True, False])
def test_redirect(close: bool) -> None:
    """A redirect keeps the method, sets its cookies and is whole."""
    response, body = parse(redirect(b"/x?y", request_id=REQUEST_ID, close=close, cookies=[b"a=1; Path=/", b"b=2"]))
    assert (response.status_code, body) == (307, b"")
    headers = list(response.headers)
    assert (b"location", b"/x?y") in headers
    assert [value for name, value in headers if name == b"set-cookie"] == [b"a=1; Path=/", b"b=2"]
    assert ((b"connection", b"close") in headers) is close
    assert (b"referrer-policy", b"same-origin") in headers


class Tags(HTMLParser):
    """Collects what a browser would see as elements and as text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_escapes() -> None:
    """What came from the request is text on the page, never markup, and never a template."""
    error = SandboxNotFound(HOSTILE)
    data = render(error, html=True, head=False, request_id=b"<b>\xff{code}", close=False)
    page = Tags(parse(data)[1])
    assert HOSTILE in page.text
    assert "<b>ÿ{code}" in page.text
    assert "script" not in page.names
    assert "b" not in page.names


def test_envelope_escapes() -> None:
    """The message arrives as it is, whatever is in it."""
    _, body = answer(SandboxNotFound(HOSTILE + "\r\n\x00ÿ"))
    assert json.loads(body)["message"] == HOSTILE + "\r\n\x00ÿ"


@pytest.mark.parametrize(("kind", "seconds"), [(SandboxStarting, 2), (PortNotListening, 3), (SandboxNotFound, 0)])
def test_page_reloads_where_waiting_helps(kind: type[GatewayError], seconds: int) -> None:
    """A page that will answer soon comes back by itself and says so."""
    _, body = answer(kind(), html=True)
    assert (f'http-equiv="refresh" content="{seconds}"'.encode() in body) == bool(seconds)
    assert (f"tries again every {seconds} seconds".encode() in body) == bool(seconds)


def test_page_runs_nothing() -> None:
    """The page forbids everything but its own style."""
    headers, _ = answer(SandboxNotFound(), html=True)
    assert b"default-src 'none'" in headers[b"content-security-policy"]


ACCEPTS = [
    (None, False),
    (b"", False),
    (b"*/*", False),
    (b"application/json", False),
    (b"text/*", False),
    (b"text/html", True),
    (b"TEXT/HTML", True),
    (b"text/html;q=0", False),
    (b"text/html;q=0.000", False),
    (b"text/html; q=0.5", True),
    (b"text/html;level=1;q=0.2, */*", True),
    (b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
    (b"application/json, text/plain, */*", False),
    (b"application/json, text/html;q=0.9", False),
    (b"application/json;q=0.9, text/html", True),
    (b"text/html, application/json", True),
    (b"text/htmlx", False),
    (b"text/html;q=nan", False),
    (b"text/html;q=-1", False),
    (b"text/html;q=1e3", False),
    (b"text/html;q=1.0000", False),
    (b"text/html;q=", False),
    (b",,;q=,", False),
    (b"\xff\x00", False),
]


@pytest.mark.parametrize(("accept", "expected"), ACCEPTS)
def test_prefers_html(accept: bytes | None, expected: bool) -> None:
    """Only who names text/html, and does not like JSON better, is shown a page."""
    assert prefers_html(accept) is expected
