"""Heads: taken apart once, and written anew for the other side.

A head is parsed by llhttp after `framing` has held its raw bytes against one strict grammar. What travels on is the
sender's own lines, byte for byte and in their order; only whole lines are taken out (hop-by-hop fields of RFC 9110
§7.6.1, whatever `Connection` names, credentials and marks meant for us) and whole lines are put behind the last.
Nothing is decoded, folded, merged or re-cased.
"""

from __future__ import annotations

from typing import Final

import httptools

from gateway import framing
from gateway.access import CREDENTIALS
from gateway.errors import (
    BadRequest,
    GatewayError,
    HeadTooLarge,
    UnknownMethod,
    UnsupportedVersion,
    UpstreamInvalid,
    UriTooLong,
)
from gateway.limits import Limits

# What a header line means to us. Names that are not here pass untouched.
_HOST: Final = 1
_LENGTH: Final = 2
_CODING: Final = 3
_CONNECTION: Final = 4
_UPGRADE: Final = 5
_EXPECT: Final = 6
_TE: Final = 7
_HOP: Final = 8
_INGRESS_TO: Final = 9
_INGRESS_OLD: Final = 10
_TOKEN: Final = 11
_RENEW: Final = 12
_CREDENTIAL: Final = 13
_FORWARDED: Final = 14
_REQUEST_ID: Final = 15
_AUTHORIZATION: Final = 16
_OURS: Final = 17

_HOP_BY_HOP = (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"http2-settings")
FORWARDED_HEADERS = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-real-ip",
    b"forwarded",
)
PEER_HEADER = b"x-gateway-peer"
SCHEME_HEADER = b"x-gateway-scheme"

_REQUEST_KINDS: dict[bytes, int] = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"upgrade": _UPGRADE,
    b"expect": _EXPECT,
    b"te": _TE,
    **dict.fromkeys(_HOP_BY_HOP, _HOP),
    **dict.fromkeys(CREDENTIALS, _CREDENTIAL),
    b"opensandbox-ingress-to": _INGRESS_TO,
    b"open-sandbox-ingress": _INGRESS_OLD,
    b"opensandbox-secure-access": _TOKEN,
    b"opensandbox-access-renew": _RENEW,
    **dict.fromkeys(FORWARDED_HEADERS, _FORWARDED),
    b"x-request-id": _REQUEST_ID,
    b"authorization": _AUTHORIZATION,
    PEER_HEADER: _OURS,
    SCHEME_HEADER: _OURS,
}
_request_kind = _REQUEST_KINDS.get

_RESPONSE_KINDS: dict[bytes, int] = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"upgrade": _UPGRADE,
    b"keep-alive": _HOP,
    b"proxy-connection": _HOP,
    b"proxy-authenticate": _HOP,
}
_response_kind = _RESPONSE_KINDS.get

# Fields that `Connection` may not name away: they frame or route the message.
_PROTECTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"x-request-id"))
# A server behind us that reads `_` as `-` (CGI, WSGI) would take these for the real ones.
_NO_TWIN = frozenset(_REQUEST_KINDS) - {b"host", b"te", b"upgrade", b"connection", b"expect", b"authorization"}
# Trailers may add facts about the content, never about framing, routing or credentials (RFC 9110 §6.5.1).
_NO_TRAILER = frozenset(_REQUEST_KINDS) | {b"trailer", b"cookie", b"set-cookie", b"content-encoding", b"content-type"}

REPLAYABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND"))
"""Methods a client may send again without harm (RFC 9110 §9.2.2), so that we may too when nothing was answered."""

MAX_REQUEST_ID = 128


class RequestHead:
    """One request head: the facts we act on, and the lines that travel on."""

    __slots__ = (
        "_block",
        "_credentials",
        "_drop",
        "forwarded",
        "headers",
        "host",
        "ingress_to",
        "keep_alive",
        "length",
        "method",
        "minor",
        "request_id",
        "skips_renewal",
        "target",
        "token",
        "upgrade",
    )

    method: bytes
    target: bytes
    minor: int
    _block: bytes

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self._drop: list[int] = []
        self._credentials: list[int] = []
        self.host = b""
        self.length = 0
        """Body length in bytes, or framing.CHUNKED."""
        self.keep_alive = True
        self.upgrade = b""
        """Value of Upgrade when the client really asks for it (RFC 9110 §7.8), else empty."""
        self.ingress_to: bytes | None = None
        self.token: bytes | None = None
        self.skips_renewal = False
        self.request_id: bytes | None = None
        self.forwarded: dict[bytes, bytes] | None = None
        """Forwarding marks that the client sent, by lower-case name; only a trusted proxy's are believed."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each header line."""
        self.headers.append((name, value))

    def find(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name; for the rare questions."""
        for candidate, value in self.headers:
            if candidate.lower() == name:
                return value
        return None

    def lines(self, *, credentials: bool) -> bytes:
        """The client's lines that travel on; `credentials` keeps those that only our own API may see."""
        drop = self._drop if credentials or not self._credentials else self._drop + self._credentials
        return _without(self._block, drop) if drop else self._block

    def drop_authorization(self) -> None:
        """Takes Authorization out of what a sandbox gets to see."""
        for index, (name, _) in enumerate(self.headers):
            if name.lower() == b"authorization":
                self._credentials.append(index)


def _without(block: bytes, drop: list[int]) -> bytes:
    lines = block.split(b"\r\n")
    for index in sorted(drop, reverse=True):
        del lines[index]
    return b"\r\n".join(lines)


def parse_request(head: bytes, limits: Limits) -> RequestHead:
    """Takes apart one whole request head (through the empty line).

    Raises BadRequest, UriTooLong, HeadTooLarge, UnknownMethod, UnsupportedVersion.
    """
    if framing.is_request_head(head) is None:
        raise _diagnose(head)
    line_end = head.index(b"\r\n")
    request = RequestHead()
    request.method, target, version = head[:line_end].split(b" ")
    if len(target) > limits.max_url_bytes:
        raise UriTooLong
    try:
        httptools.HttpRequestParser(request).feed_data(head)
    except httptools.HttpParserUpgrade:
        if request.method == b"CONNECT":
            raise UnknownMethod("This gateway is no forward proxy: CONNECT is not offered.") from None
    except httptools.HttpParserInvalidMethodError:
        raise UnknownMethod from None
    except httptools.HttpParserError:
        raise BadRequest from None
    if len(request.headers) > limits.max_headers:
        raise HeadTooLarge
    request.target = target
    request.minor = version[-1] - 0x30
    request._block = head[line_end + 2 : -2]
    _classify(request)
    if target[0] != 0x2F:
        _normalise_target(request)
    return request


def _classify(request: RequestHead) -> None:
    hosts = 0
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    drop = request._drop
    ingress_old: bytes | None = None
    upgrade: bytes | None = None
    underscores = b"_" in request._block
    index = -1
    for name, value in request.headers:
        index += 1
        lower = name.lower()
        kind = _request_kind(lower)
        if kind is None:
            if underscores and b"_" in lower and lower.replace(b"_", b"-") in _NO_TWIN:
                raise BadRequest("a header name spells a reserved one with underscores")
        elif kind == _HOST:
            hosts += 1
            request.host = value
        elif kind == _LENGTH:
            lengths.append(value)
        elif kind == _CONNECTION:
            connection.append(value)
            drop.append(index)
        elif kind == _CODING:
            codings.append(value)
            drop.append(index)
        elif kind == _HOP:
            drop.append(index)
        elif kind == _FORWARDED:
            drop.append(index)
            if request.forwarded is None:
                request.forwarded = {}
            held = request.forwarded.get(lower)
            request.forwarded[lower] = value if held is None else held + b", " + value
        elif kind == _REQUEST_ID:
            if request.request_id is None and 0 < len(value) <= MAX_REQUEST_ID:
                request.request_id = value
            else:
                drop.append(index)
        elif kind == _UPGRADE:
            upgrade = value if upgrade is None else upgrade + b", " + value
            drop.append(index)
        elif kind == _EXPECT:
            if value.lower() != b"100-continue":
                raise BadRequest("the only expectation there is, is 100-continue")
            if request.minor == 0:
                drop.append(index)
        elif kind == _TE:
            # Only "trailers" means the same on both of our sides; codings are negotiated hop by hop.
            if b"trailers" not in value.lower():
                drop.append(index)
        elif kind == _INGRESS_TO:
            if request.ingress_to is not None:
                raise BadRequest("there must be one OpenSandbox-Ingress-To only")
            request.ingress_to = value
            drop.append(index)
        elif kind == _AUTHORIZATION:
            pass
        elif kind == _OURS:
            drop.append(index)
        else:
            request._credentials.append(index)
            if kind == _TOKEN:
                if request.token is not None:
                    raise BadRequest("there must be one OpenSandbox-Secure-Access only")
                request.token = value
            elif kind == _RENEW:
                request.skips_renewal = value == b"skip"
            elif kind == _INGRESS_OLD:
                if ingress_old is not None:
                    raise BadRequest("there must be one OPEN-SANDBOX-INGRESS only")
                ingress_old = value
    if request.ingress_to is None:
        request.ingress_to = ingress_old
    if hosts != 1 or framing.is_host(request.host) is None:
        raise BadRequest("there must be one valid Host")
    length = framing.body_length(lengths, codings, request.minor) if lengths or codings else None
    request.length = length or 0
    if connection:
        _read_connection(request, b",".join(connection).lower(), upgrade)
    elif request.minor == 0:
        request.keep_alive = False


def _read_connection(request: RequestHead, value: bytes, upgrade: bytes | None) -> None:
    tokens = {token.strip(b" \t") for token in value.split(b",")}
    request.keep_alive = b"close" not in tokens and (request.minor == 1 or b"keep-alive" in tokens)
    if (
        upgrade is not None
        and b"upgrade" in tokens
        and not request.length
        and request.minor == 1
        # h2c would hand the connection to a protocol whose requests we could not see (RFC 9113 dropped it).
        and not any(offer.strip(b" \t").startswith(b"h2") for offer in upgrade.lower().split(b","))
    ):
        request.upgrade = upgrade
    named = tokens - {b"", b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"}
    if named:
        if named & _PROTECTED:
            raise BadRequest("Connection names a header that frames or routes the message")
        request._drop.extend(
            index
            for index, (name, _) in enumerate(request.headers)
            if name.lower() in named and index not in request._drop and index not in request._credentials
        )


def _normalise_target(request: RequestHead) -> None:
    """Absolute-form becomes origin-form when its authority is the Host; `*` stays (RFC 9112 §3.2)."""
    target = request.target
    if target == b"*":
        if request.method != b"OPTIONS":
            raise BadRequest("the request target '*' goes with OPTIONS only")
        return
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        raise BadRequest("the request target must be a path")
    for at, byte in enumerate(rest):
        if byte in b"/?":
            authority, path = rest[:at], rest[at:]
            break
    else:
        authority, path = rest, b"/"
    if authority.lower() != request.host.lower():
        raise BadRequest("the request target names another host than the Host header")
    request.target = path if path[0] == 0x2F else b"/" + path


def _diagnose(head: bytes) -> GatewayError:
    line = head.partition(b"\r\n")[0]
    words = line.split(b" ")
    if len(words) == 3 and words[2].startswith(b"HTTP/") and words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return UnsupportedVersion()
    return BadRequest("the request head is malformed")


def build_request(request: RequestHead, target: bytes, added: bytes, *, credentials: bool = False) -> bytes:
    """The head that goes upstream: `added` are whole lines, each ending in CR LF, that come last."""
    lines = request.lines(credentials=credentials)
    if request.length == framing.CHUNKED:
        added += b"Transfer-Encoding: chunked\r\n"
    elif request.upgrade:
        added += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (request.method, target, lines, added)


class ResponseHead:
    """One response head of a sandbox: the facts we act on, and the lines that travel on."""

    __slots__ = ("_block", "_drop", "_status_line", "headers", "keep_alive", "length", "minor", "status", "upgrade")

    status: int
    minor: int
    length: int
    """Number of body bytes, or framing.CHUNKED, or framing.UNTIL_CLOSE."""
    _status_line: bytes
    _block: bytes

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self._drop: list[int] = []
        self.keep_alive = True
        self.upgrade = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each header line."""
        self.headers.append((name, value))


def parse_response(head: bytes, *, to_head: bool) -> ResponseHead:
    """Takes apart one whole response head; `to_head` says the request was HEAD, whose answers have no body.

    `length` becomes the number of body bytes, CHUNKED or UNTIL_CLOSE (RFC 9112 §6.3). Raises UpstreamInvalid.
    """
    if framing.is_response_head(head) is None:
        raise UpstreamInvalid
    line_end = head.index(b"\r\n")
    response = ResponseHead()
    try:
        httptools.HttpResponseParser(response).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise UpstreamInvalid from None
    response.status = status = int(head[9:12])
    response.minor = head[7] - 0x30
    response._status_line = head[8:line_end]
    response._block = head[line_end + 2 : -2]
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    index = -1
    for name, value in response.headers:
        index += 1
        kind = _response_kind(name.lower())
        if kind is None:
            continue
        if kind == _LENGTH:
            lengths.append(value)
            continue
        response._drop.append(index)
        if kind == _CONNECTION:
            connection.append(value)
        elif kind == _CODING:
            codings.append(value)
        elif kind == _UPGRADE:
            response.upgrade = value
    try:
        length = framing.body_length(lengths, codings, response.minor) if lengths or codings else None
    except BadRequest as error:
        raise UpstreamInvalid from error
    if to_head or status < 200 or status in (204, 304):
        if codings and not to_head:
            raise UpstreamInvalid
        response.length = 0
    else:
        response.length = framing.UNTIL_CLOSE if length is None else length
    if connection:
        _read_response_connection(response, b",".join(connection).lower())
    elif response.minor == 0:
        response.keep_alive = False
    if status == 426 and response.upgrade:
        # 426 has to name what it asks for (RFC 9110 §15.5.22), though Upgrade is hop-by-hop elsewhere.
        response._drop = [i for i in response._drop if response.headers[i][0].lower() != b"upgrade"]
    return response


def _read_response_connection(response: ResponseHead, value: bytes) -> None:
    tokens = {token.strip(b" \t") for token in value.split(b",")}
    response.keep_alive = b"close" not in tokens and (response.minor == 1 or b"keep-alive" in tokens)
    named = tokens - {b"", b"close", b"keep-alive", b"upgrade", b"content-length"}
    if named:
        response._drop.extend(
            index
            for index, (name, _) in enumerate(response.headers)
            if name.lower() in named and index not in response._drop
        )


def build_response(response: ResponseHead, added: bytes) -> bytes:
    """The head that goes to the client: `added` are whole lines, each ending in CR LF, that come last."""
    block = _without(response._block, response._drop) if response._drop else response._block
    return b"HTTP/1.1%b\r\n%b%b\r\n" % (response._status_line, block, added)


def filter_trailers(trailers: bytes) -> bytes:
    """Trailer lines that may travel on (each ends in CR LF)."""
    if not trailers:
        return b""
    kept = [
        line
        for line in trailers.split(b"\r\n")
        if line and line.partition(b":")[0].lower().replace(b"_", b"-") not in _NO_TRAILER
    ]
    return b"".join(b"%b\r\n" % line for line in kept)
