"""CORS of sandboxes' ports: which origins may send requests, and the headers that tell browsers. Pure.

A browser asks before it sends what a plain form could not (Fetch §3.2.2): an OPTIONS request without a credential,
whose answer decides whether the page's own request is sent at all. The rules, for origins that the operator or the
sandbox's owner allows; nothing is said to any other:

* On a *marked* port a preflight is answered here, before any credential is asked for, and an answer that says nothing
  of origins itself may be read. execd and the egress sidecar are always marked, since they know nothing of browsers.
* On any other port both are the program's business. Only a preflight that we would have to refuse (it holds no token,
  the sandbox is paused) is answered with yes, since the page could otherwise not read why.
* Our own refusals may be read.
* In the header form a preflight cannot name its sandbox: it is answered by the operator's list alone.

`*` is never said together with credentials (Fetch §3.2.5): an origin that is listed by name may send cookies, others
that `*` lets in may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.http.request_head import RequestHead
    from gateway.http.response_head import ResponseHead

ANY: Final = b"*"
ALWAYS_MARKED: Final = frozenset((44772, 18080))
"""The ports of execd and of the egress sidecar."""
_ROUTING: Final = (b"opensandbox-ingress-to", b"open-sandbox-ingress")
_EXPOSED: Final = (
    b"Access-Control-Expose-Headers: X-Request-ID, Retry-After, Location, ETag, Content-Disposition, Content-Range\r\n"
)
_VARY: Final = b"Vary: Origin\r\n"
_MAX_AGE: Final = b"Access-Control-Max-Age: 600\r\n"


@dataclass(frozen=True, slots=True)
class CorsRule:
    """What a sandbox's owner allows: origins, and the ports that are marked for them (0: all)."""

    origins: frozenset[bytes]
    ports: frozenset[int] = frozenset()


def is_preflight(request: RequestHead) -> bool:
    """Whether a browser asks if a page of another origin may send a request."""
    return (
        request.method == b"OPTIONS"
        and request.origin is not None
        and request.find(b"access-control-request-method") is not None
    )


def names_the_routing_header(request: RequestHead) -> bool:
    """Whether the request that a preflight is for will name its sandbox in a header, which the preflight cannot."""
    asked = request.find(b"access-control-request-headers")
    return asked is not None and any(name.strip() in _ROUTING for name in asked.lower().split(b","))


def allowed(listed: frozenset[bytes], rule: CorsRule | None, origin: bytes) -> bytes:
    """The lines that let pages of this origin read an answer; none when they may not.

    `listed` are the origins that the operator lets in, `rule` is what the sandbox's owner says.
    """
    own = frozenset() if rule is None else rule.origins
    if origin in listed or origin in own:
        lines = b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n" % origin
    elif ANY in listed or ANY in own:
        lines = b"Access-Control-Allow-Origin: *\r\n"
    else:
        return b""
    return lines + _VARY


def is_marked(rule: CorsRule | None, port: int) -> bool:
    """Whether we speak of origins for this port."""
    return port in ALWAYS_MARKED or (rule is not None and (port in rule.ports or 0 in rule.ports))


def readable(listed: frozenset[bytes], rule: CorsRule | None, origin: bytes) -> bytes:
    """The same with the lines that let a page see the headers of the answer."""
    lines = allowed(listed, rule, origin)
    return lines + _EXPOSED if lines else b""


def sandbox_answer(
    listed: frozenset[bytes], rule: CorsRule | None, port: int, origin: bytes | None, response: ResponseHead
) -> bytes:
    """The lines behind a sandbox's answer: none where the program has spoken of origins itself.

    On a marked port every answer says that it depends on the origin: one that a cache has kept for somebody whom it
    told nothing is not for a page that would be told something (Fetch, "CORS protocol and HTTP caches").
    """
    if not is_marked(rule, port) or response.find(b"access-control-allow-origin") is not None:
        return b""
    return readable(listed, rule, origin or b"") or _VARY


def preflight_answer(request: RequestHead, lines: bytes, request_id: bytes, *, close: bool) -> bytes:
    """The whole answer that lets a request be sent; `lines` say to whom."""
    parts = [b"HTTP/1.1 204 No Content\r\n", lines, _MAX_AGE]
    parts.append(b"Access-Control-Allow-Methods: %b\r\n" % (request.find(b"access-control-request-method") or b""))
    asked = request.find(b"access-control-request-headers")
    if asked:
        parts.append(b"Access-Control-Allow-Headers: %b\r\n" % asked)
    if request.find(b"access-control-request-private-network") == b"true":
        parts.append(b"Access-Control-Allow-Private-Network: true\r\n")
    parts.append(b"X-Request-ID: %b\r\n" % request_id)
    if close:
        parts.append(b"Connection: close\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
