"""Error responses and redirects as bytes: the JSON envelope for programs, a small page for browsers.

The page is one self-contained file without scripts. It says what happened and what to do, and reloads itself where
waiting helps. Whatever comes from a request is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Final

from gateway.errors import GatewayError

_JSON: Final = b"Content-Type: application/json\r\n"
_HTML: Final = (
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors *\r\n"
)
_ALWAYS: Final = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
_CHALLENGE: Final = b'WWW-Authenticate: OpenSandbox-Secure-Access realm="sandbox"\r\n'
_UNAUTHORIZED: Final = 401
_LONGEST_ACCEPT: Final = 1024
"""No browser's Accept has more than 200 bytes; taking a long one apart would cost others their time."""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>{title}</title>
<style>
body{{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;
background:#f6f7f9;color:#1c2330}}
main{{max-width:34rem;padding:2rem}}
h1{{font-size:1.5rem;margin:0 0 .5rem}}
p{{margin:.5rem 0}}
small{{color:#667085}}
@media (prefers-color-scheme:dark){{body{{background:#12161d;color:#e6e9ef}}small{{color:#98a2b3}}}}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{message}</p>
{waiting}<p><small>{status} {code} &middot; request {request_id}</small></p>
</main>
</body>
</html>
"""


def render(error: GatewayError, *, html: bool, head: bool, request_id: bytes, close: bool, added: bytes = b"") -> bytes:
    """The whole response, ready to be written.

    `head` leaves the body out (the request was a HEAD) and keeps its length in the head. `close` announces that the
    connection ends after it; an error that leaves the connection unusable announces it by itself. `added` are lines of
    its head.
    """
    body = _page(error, request_id) if html else _envelope(error)
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (error.status, error.status.phrase.encode()),
        _HTML if html else _JSON,
        b"Content-Length: %d\r\n" % len(body),
        _ALWAYS,
        b"X-Request-ID: %b\r\n" % request_id,
        added,
    ]
    if error.retry_after is not None:
        lines.append(b"Retry-After: %d\r\n" % error.retry_after)
    if error.status == _UNAUTHORIZED:
        lines.append(_CHALLENGE)
    if close or error.closes:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    if not head:
        lines.append(body)
    return b"".join(lines)


def redirect(location: bytes, *, request_id: bytes, close: bool, cookies: Sequence[bytes] = ()) -> bytes:
    """The whole answer that sends a client elsewhere with the same method and body; `cookies` are set on the way.

    The page that sent the client here, whose address may hold a signature, is told to nobody else: only the same origin
    still gets a Referer, by which it knows a page of its own (`own_pages`).
    """
    lines = [
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n" % location,
        b"Referrer-Policy: same-origin\r\n",
        _ALWAYS,
        b"X-Request-ID: %b\r\n" % request_id,
        *(b"Set-Cookie: %b\r\n" % cookie for cookie in cookies),
    ]
    if close:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def prefers_html(accept: bytes | None) -> bool:
    """Whether this Accept header is a browser's: it names text/html and does not prefer JSON."""
    if accept is None or len(accept) > _LONGEST_ACCEPT:
        return False
    weights = dict(_weight(part) for part in accept.lower().split(b","))
    html = weights.get(b"text/html", 0.0)
    return html > 0 and html >= weights.get(b"application/json", 0.0)


def _weight(part: bytes) -> tuple[bytes, float]:
    name, *parameters = part.split(b";")
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key.strip() == b"q":
            weight = _quality(value.strip())
    return name.strip(), weight


def _quality(text: bytes) -> float:
    """A weight of 0 to 1 with at most three digits; anything else counts as 0."""
    whole, _, fraction = text.partition(b".")
    if whole not in {b"0", b"1"} or len(fraction) > 3 or (fraction and not fraction.isdigit()):
        return 0.0
    return min(1.0, float(text))


def _envelope(error: GatewayError) -> bytes:
    return json.dumps({"code": error.code, "message": error.message}).encode()


def _page(error: GatewayError, request_id: bytes) -> bytes:
    refresh = waiting = ""
    if error.refresh:
        refresh = f'<meta http-equiv="refresh" content="{error.refresh}">\n'
        waiting = f"<p>This page tries again every {error.refresh} seconds.</p>\n"
    return _PAGE.format(
        refresh=refresh,
        waiting=waiting,
        title=escape(error.title),
        message=escape(error.message),
        status=int(error.status),
        code=escape(error.code),
        request_id=escape(request_id.decode("latin-1")),
    ).encode()
