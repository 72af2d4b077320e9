"""Heads: taken apart once, and written anew for the other side.

A head is parsed by llhttp after `framing` has held its raw bytes against one strict grammar. What travels on is the
sender's own lines, byte for byte and in their order; only whole lines are taken out (hop-by-hop fields of RFC 9110
§7.6.1, whatever `Connection` names, credentials and marks meant for us) and whole lines are put behind the last.
Nothing is decoded, folded, merged or re-cased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import httptools

from gateway import framing
from gateway.access import CREDENTIALS
from gateway.errors import (
    BadRequest,
    BadRoute,
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
_FORWARDED: Final = 9
_REQUEST_ID: Final = 10
_AUTHORIZATION: Final = 11
_TWIN: Final = 12
# From here on: for this platform only, never for a sandbox.
_INGRESS_TO: Final = 13
_INGRESS_OLD: Final = 14
_TOKEN: Final = 15
_RENEW: Final = 16
_CREDENTIAL: Final = 17

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
    PEER_HEADER: _HOP,
    SCHEME_HEADER: _HOP,
}

_RESPONSE_KINDS: dict[bytes, int] = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"upgrade": _UPGRADE,
    b"keep-alive": _HOP,
    b"proxy-connection": _HOP,
    b"proxy-authenticate": _HOP,
}

# Fields that `Connection` may not name away: they frame or route the message.
_PROTECTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"x-request-id"))
# A server behind us that reads `_` as `-` (CGI, WSGI) would take these for the real ones.
_NO_TWIN = frozenset(_REQUEST_KINDS) - {b"host", b"te", b"upgrade", b"connection", b"expect", b"authorization"}
# Trailers may add facts about the content, never about framing, routing or credentials (RFC 9110 §6.5.1).
_NO_TRAILER = frozenset(_REQUEST_KINDS) | {b"trailer", b"cookie", b"set-cookie", b"content-encoding", b"content-type"}

REPLAYABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND"))
"""Methods a client may send again without harm (RFC 9110 §9.2.2), so that we may too when nothing was answered."""

MAX_REQUEST_ID = 128
_REMEMBERED_NAMES = 4096


class _Kinds(dict[bytes, int]):
    """Header names as they are spelled → what they mean to us; 0 for those that pass.

    Names come in few spellings, so each is lower-cased once and then remembered; the bound is there because clients
    choose the names.
    """

    def __init__(self, known: Mapping[bytes, int], twins: frozenset[bytes]) -> None:
        super().__init__()
        self._known = known
        self._twins = twins

    def __missing__(self, name: bytes) -> int:
        lower = name.lower()
        kind = self._known.get(lower, 0)
        if not kind and b"_" in lower and lower.replace(b"_", b"-") in self._twins:
            kind = _TWIN
        if len(self) >= _REMEMBERED_NAMES:
            self.clear()
        if len(name) <= 64:
            self[name] = kind
        return kind


_request_kinds = _Kinds(_REQUEST_KINDS, _NO_TWIN)
_response_kinds = _Kinds(_RESPONSE_KINDS, frozenset())


class RequestHead:
    """One request head: the facts we act on, and the lines that travel on."""

    __slots__ = (
        "_block",
        "_credentials",
        "_drop",
        "_lines",
        "_notes",
        "authorization",
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
        self.headers: list[bytes] = []
        """Names and values in turn, as they came."""
        self._notes: list[tuple[int, int, bytes]] = []
        self._drop: list[int] = []
        self._credentials: list[int] = []
        self._lines: bytes | None = None
        self.host = b""
        self.length = 0
        """Body length in bytes, or framing.CHUNKED."""
        self.keep_alive = True
        self.upgrade = b""
        """Value of Upgrade when the client really asks for it (RFC 9110 §7.8), else empty."""
        self.ingress_to: bytes | None = None
        self.token: bytes | None = None
        self.authorization: bytes | None = None
        self.skips_renewal = False
        self.request_id: bytes | None = None
        """The client's own, where it sent a usable one; it travels on with its line."""
        self.forwarded: dict[bytes, bytes] | None = None
        """Forwarding marks that the client sent, by lower-case name; only a trusted proxy's are believed."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each header line."""
        headers = self.headers
        kind = _request_kinds[name]
        if kind:
            self._notes.append((kind, len(headers) >> 1, value))
        headers.append(name)
        headers.append(value)

    def find(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name; for the rare questions."""
        headers = self.headers
        for at in range(0, len(headers), 2):
            if headers[at].lower() == name:
                return headers[at + 1]
        return None

    def lines(self) -> bytes:
        """The client's lines that a sandbox may see."""
        lines = self._lines
        if lines is None:
            lines = self._lines = _without(self._block, self._drop + self._credentials)
        return lines

    def lines_without_authorization(self) -> bytes:
        """The same, when Authorization turned out to be a credential of ours."""
        names = self.headers[::2]
        authorization = [index for index, name in enumerate(names) if name.lower() == b"authorization"]
        return _without(self._block, self._drop + self._credentials + authorization)

    def own_lines(self) -> bytes:
        """The client's lines that our own API gets to see, credentials among them."""
        return _without(self._block, self._drop)


def _without(block: bytes, drop: list[int]) -> bytes:
    if not drop:
        return block
    lines = block.split(b"\r\n")
    for index in sorted(drop, reverse=True):
        del lines[index]
    return b"\r\n".join(lines)


class RequestReader:
    """Reads the request heads of one client connection.

    A keep-alive client repeats its header block from request to request, often to the byte. The facts of a block are a
    pure function of its bytes, so the last one is remembered, and only the request line of the next is read.
    """

    __slots__ = ("_last", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._last: RequestHead | None = None

    def read(self, head: bytes, limits: Limits) -> RequestHead:
        """The request of one whole head (through the empty line).

        Raises BadRequest, UriTooLong, HeadTooLarge, UnknownMethod, UnsupportedVersion.
        """
        method, _, rest = head.partition(b" ")
        target, _, tail = rest.partition(b" ")
        last = self._last
        if (
            last is not None
            and tail == self._tail
            and method in _methods
            and _is_path(target) is not None
            and len(target) <= limits.max_url_bytes
        ):
            last.method = method
            last.target = target
            return last
        request = parse_request(head, limits)
        if len(tail) <= _REMEMBERED_HEAD:
            self._last, self._tail = request, tail
        else:
            self._last, self._tail = None, b""
        return request


_REMEMBERED_HEAD = 2048
_is_path = re.compile(rb"/[!-~]*+").fullmatch
_methods: set[bytes] = set()
"""Methods that the parser has accepted."""


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
    if len(request.headers) > 2 * limits.max_headers:
        raise HeadTooLarge
    _methods.add(request.method)
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
    for kind, index, value in request._notes:
        if kind == _HOST:
            hosts += 1
            request.host = value
        elif kind == _LENGTH:
            lengths.append(value)
        elif kind == _AUTHORIZATION:
            request.authorization = value
        elif kind == _REQUEST_ID and request.request_id is None and 0 < len(value) <= MAX_REQUEST_ID:
            request.request_id = value
        elif kind == _TE and b"trailers" in value.lower():
            pass  # only "trailers" means the same on both of our sides; codings are negotiated hop by hop
        elif kind == _TWIN:
            raise BadRequest("a header name spells a reserved one with underscores")
        elif kind >= _INGRESS_TO:
            request._credentials.append(index)
            if kind == _INGRESS_TO:
                if request.ingress_to is not None:
                    raise BadRoute("There must be one OpenSandbox-Ingress-To header only.")
                request.ingress_to = value
            elif kind == _TOKEN:
                if request.token is not None:
                    raise BadRequest("there must be one OpenSandbox-Secure-Access only")
                request.token = value
            elif kind == _RENEW:
                request.skips_renewal = value == b"skip"
            elif kind == _INGRESS_OLD:
                if ingress_old is not None:
                    raise BadRoute("There must be one OPEN-SANDBOX-INGRESS header only.")
                ingress_old = value
        elif kind == _EXPECT:
            if value.lower() != b"100-continue":
                raise BadRequest("the only expectation there is, is 100-continue")
            if request.minor == 0:
                drop.append(index)
        else:
            drop.append(index)
            if kind == _CONNECTION:
                connection.append(value)
            elif kind == _CODING:
                codings.append(value)
            elif kind == _UPGRADE:
                upgrade = value if upgrade is None else upgrade + b", " + value
            elif kind == _FORWARDED:
                _note_forwarded(request, index, value)
    if request.ingress_to is None:
        request.ingress_to = ingress_old
    elif ingress_old is not None and ingress_old != request.ingress_to:
        raise BadRoute("OpenSandbox-Ingress-To and OPEN-SANDBOX-INGRESS name different sandboxes. Send the first only.")
    # HTTP/1.0 has no Host (probes of old load balancers send none); everything else has exactly one.
    if (hosts or request.minor) and (hosts != 1 or framing.is_host(request.host) is None):
        raise BadRequest("there must be one valid Host")
    length = framing.body_length(lengths, codings, request.minor) if lengths or codings else None
    request.length = length or 0
    if connection:
        _read_connection(request, b",".join(connection).lower(), upgrade)
    elif request.minor == 0:
        request.keep_alive = False


def _note_forwarded(request: RequestHead, index: int, value: bytes) -> None:
    if request.forwarded is None:
        request.forwarded = {}
    name = request.headers[2 * index].lower()
    held = request.forwarded.get(name)
    request.forwarded[name] = value if held is None else held + b", " + value


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
            for index, name in enumerate(request.headers[::2])
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


_is_version = re.compile(rb"HTTP/[0-9](?:\.[0-9])?").fullmatch


def _diagnose(head: bytes) -> GatewayError:
    line = head.partition(b"\r\n")[0]
    words = line.split(b" ")
    if len(words) == 3 and _is_version(words[2]) and words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return UnsupportedVersion()
    return BadRequest("the request head is malformed")


def build_request(request: RequestHead, target: bytes, lines: bytes, added: bytes) -> bytes:
    """The head that goes upstream: `lines` of the client, then `added`; whole lines, each ending in CR LF."""
    if not request.host:
        added += b"Host: localhost\r\n"
    if request.length == framing.CHUNKED:
        added += b"Transfer-Encoding: chunked\r\n"
    elif request.upgrade:
        added += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (request.method, target, lines, added)


class ResponseHead:
    """One response head of a sandbox: the facts we act on, and the lines that travel on."""

    __slots__ = (
        "_added",
        "_block",
        "_built",
        "_drop",
        "_names",
        "_notes",
        "_status_line",
        "keep_alive",
        "length",
        "minor",
        "status",
        "upgrade",
    )

    status: int
    minor: int
    length: int
    """Number of body bytes, or framing.CHUNKED, or framing.UNTIL_CLOSE."""
    _status_line: bytes
    _block: bytes

    def __init__(self) -> None:
        self._added: bytes | None = None
        self._built = b""
        self._names: list[bytes] = []
        self._notes: list[tuple[int, int, bytes]] = []
        self._drop: list[int] = []
        self.keep_alive = True
        self.upgrade = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each header line."""
        names = self._names
        kind = _response_kinds[name]
        if kind:
            self._notes.append((kind, len(names), value))
        names.append(name)


class ResponseReader:
    """Reads the response heads of one upstream connection, remembering the last: polls are answered alike."""

    __slots__ = ("_head", "_last", "_to_head")

    def __init__(self) -> None:
        self._head = b""
        self._to_head = False
        self._last: ResponseHead | None = None

    def read(self, head: bytes, *, to_head: bool) -> ResponseHead:
        """As `parse_response`."""
        if head == self._head and to_head is self._to_head and self._last is not None:
            return self._last
        response = parse_response(head, to_head=to_head)
        if len(head) <= _REMEMBERED_HEAD:
            self._head, self._to_head, self._last = head, to_head, response
        return response


def parse_response(head: bytes, *, to_head: bool) -> ResponseHead:
    """Takes apart one whole response head; `to_head` says the request was HEAD, whose answers have no body.

    Raises UpstreamInvalid.
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
    response.minor = minor = head[7] - 0x30
    response.keep_alive = minor == 1
    response._status_line = head[8:line_end]
    response._block = head[line_end + 2 : -2]
    length = _read_response_notes(response)
    if status >= 200 and status != 204 and status != 304 and not to_head:
        response.length = framing.UNTIL_CLOSE if length is None else length
    elif length == framing.CHUNKED and not to_head:
        raise UpstreamInvalid  # RFC 9112 §6.1: these have no body, so a coding can only be a misunderstanding
    else:
        response.length = 0
    return response


def _read_response_notes(response: ResponseHead) -> int | None:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    drop = response._drop
    for kind, index, value in response._notes:
        if kind == _LENGTH:
            lengths.append(value)
            continue
        if kind == _UPGRADE:
            response.upgrade = value
            if response.status == 426:
                continue  # has to name what it asks for (RFC 9110 §15.5.22), though hop-by-hop elsewhere
        drop.append(index)
        if kind == _CONNECTION:
            connection.append(value)
        elif kind == _CODING:
            codings.append(value)
    if connection:
        _read_response_connection(response, b",".join(connection).lower())
    if not lengths and not codings:
        return None
    try:
        return framing.body_length(lengths, codings, response.minor)
    except BadRequest as error:
        raise UpstreamInvalid from error


def _read_response_connection(response: ResponseHead, value: bytes) -> None:
    if value == b"keep-alive":
        response.keep_alive = True
        return
    tokens = {token.strip(b" \t") for token in value.split(b",")}
    response.keep_alive = b"close" not in tokens and (response.minor == 1 or b"keep-alive" in tokens)
    named = tokens - {b"", b"close", b"keep-alive", b"upgrade", b"content-length"}
    if named:
        response._drop.extend(
            index for index, name in enumerate(response._names) if name.lower() in named and index not in response._drop
        )


def build_response(response: ResponseHead, added: bytes) -> bytes:
    """The head that goes to the client: `added` are whole lines, each ending in CR LF, that come last."""
    if added != response._added:
        response._added = added
        block = _without(response._block, response._drop)
        response._built = b"HTTP/1.1%b\r\n%b%b\r\n" % (response._status_line, block, added)
    return response._built


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
