"""The head of a request: the fields the gateway acts on, and the lines that are forwarded."""

from __future__ import annotations

import re
from typing import Final

import httptools

from gateway.errors import (
    BadRequest,
    BadRoute,
    GatewayError,
    HeadTooLarge,
    UnknownMethod,
    UnsupportedVersion,
    UriTooLong,
)
from gateway.http import framing
from gateway.http.cookies import strip_cookies
from gateway.http.fields import (
    AUTHORIZATION,
    CODING,
    CONNECTION,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    INGRESS_OLD,
    INGRESS_TO,
    LENGTH,
    ORIGIN,
    RENEW,
    REQUEST_ID,
    TE,
    TOKEN,
    TWIN,
    UPGRADE,
    Field,
    request_lines,
)
from gateway.http.heads import REMEMBERED_HEAD, SILENT, find, has_too_many, joined, lines_named
from gateway.limits import Limits

_REPLAYABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND"))
"""Methods a client may send again without harm (RFC 9110 §9.2.2), so that we may too when nothing was answered."""

_is_request_id = re.compile(rb"[ -~]{1,128}").fullmatch
"""What can stand in every log, and in answers as it came."""

# Fields that `Connection` may not name away: they frame or route the message.
_PROTECTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"x-request-id"))
_request_fields = request_lines(BadRequest)

_is_request_line = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++ [!-~]++ HTTP/1\.[01]").fullmatch
_is_path = re.compile(rb"/[!-~]*+").fullmatch
_is_version = re.compile(rb"HTTP/[0-9](?:\.[0-9])?").fullmatch

_methods: set[bytes] = set()
"""Methods that llhttp has accepted."""


class RequestHead:
    """One request head: the facts we act on, and the lines that travel on."""

    __slots__ = (
        "_credentials",
        "_drop",
        "_fields",
        "_passing",
        "authorization",
        "forwarded",
        "has_our_cookies",
        "host",
        "ingress_to",
        "is_head",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "origin",
        "replayable",
        "request_id",
        "skips_renewal",
        "target",
        "token",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, lines: list[bytes]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        """The 1 of HTTP/1.1, or the 0 of HTTP/1.0."""
        self.lines = lines
        """The header lines as they came, without their ends."""
        self._fields: list[tuple[int, Field]] = []
        self._drop: list[int] = []
        self._credentials: list[int] = []
        self._passing: bytes | None = None
        self.is_head = method == b"HEAD"
        self.replayable = False
        """Whether it may be sent again when nothing of an answer has come: idempotent, and without a body."""
        self.host = b""
        self.length = 0
        """Body length in bytes, or framing.CHUNKED."""
        self.keep_alive = True
        self.upgrade = b""
        """Value of Upgrade when the client really asks for it (RFC 9110 §7.8), else empty."""
        self.ingress_to: bytes | None = None
        self.token: bytes | None = None
        self.authorization: bytes | None = None
        self.origin: bytes | None = None
        """Whose page a browser says has asked; None from programs."""
        self.skips_renewal = False
        self.has_our_cookies = False
        self.request_id: bytes | None = None
        """The client's own, where it sent a usable one; it travels on with its line."""
        self.forwarded: dict[bytes, bytes] | None = None
        """Forwarding marks that the client sent, by lower-case name; only a trusted proxy's are believed."""

    def find(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name; for the rare questions."""
        return find(self.lines, name)

    def passing(self) -> bytes:
        """The client's lines that a sandbox may see, each with its end."""
        passing = self._passing
        if passing is None:
            passing = self._passing = self.passing_without()
        return passing

    def passing_without(self, *kinds: int) -> bytes:
        """The same without the lines of these kinds (`fields`)."""
        unwanted = [index for index, field in self._fields if field.kind in kinds]
        lines = self.lines
        if self.has_our_cookies:
            lines = lines.copy()
            for index, field in self._fields:
                if field.kind == COOKIE:
                    value = strip_cookies(field.value)
                    lines[index] = b"%b: %b" % (lines[index].partition(b":")[0], value)
                    if not value:
                        unwanted.append(index)
        return joined(lines, self._drop + self._credentials + unwanted)

    def passing_to_us(self) -> bytes:
        """The client's lines that our own API gets to see, credentials among them."""
        return joined(self.lines, self._drop)


class RequestReader:
    """Reads the request heads of one client connection, remembering a header block that came twice in a row.

    Not the first time: most connections of browsers never say the same again, and thousands of them wait for years.
    """

    __slots__ = ("_seen", "_tail", "head", "last")

    def __init__(self) -> None:
        self.head = b""
        """The last head, for who would like to know whether another one is the same; empty when none is remembered."""
        self.last: RequestHead | None = None
        """What `read` made of it."""
        self._tail = b""
        self._seen = 0
        """Hash of the last header block."""

    def forget(self) -> None:
        """Lets the remembered head go: its client has fallen silent."""
        self.head = self._tail = b""
        self.last = None

    def read(self, head: bytes, limits: Limits) -> RequestHead:
        """The request of one whole head (through the empty line); valid until the next is read.

        A head that differs from the last in its first line only comes in the same object, with a new `method` object:
        who keeps what was found out about a request knows by these two whether it is still the same one.

        Raises BadRequest, BadRoute, UriTooLong, HeadTooLarge, UnknownMethod, UnsupportedVersion.
        """
        last = self.last
        if last is not None and head == self.head:
            return last
        method, _, rest = head.partition(b" ")
        target, _, tail = rest.partition(b" ")
        if (
            last is not None
            and tail == self._tail
            and method in _methods
            and _is_path(target) is not None
            and len(target) <= limits.max_url_bytes
        ):
            last.method = method
            last.target = target
            last.is_head = method == b"HEAD"
            last.replayable = not last.length and method in _REPLAYABLE
            self.head = head
            return last
        request = parse_request(head, limits)
        seen = hash(tail)
        if seen == self._seen and len(head) <= REMEMBERED_HEAD:
            self.last, self._tail, self.head = request, tail, head
        elif last is not None:
            self.forget()
        self._seen = seen
        return request


def parse_request(head: bytes, limits: Limits) -> RequestHead:
    """Takes apart one whole request head (through the empty line).

    Raises BadRequest, BadRoute, UriTooLong, HeadTooLarge, UnknownMethod, UnsupportedVersion.
    """
    lines = head[:-4].split(b"\r\n")
    line = lines.pop(0)
    if _is_request_line(line) is None:
        raise _diagnose(line)
    method, target, version = line.split(b" ")
    if len(target) > limits.max_url_bytes:
        raise UriTooLong
    if len(lines) > limits.max_headers:
        raise HeadTooLarge
    request = RequestHead(method, target, version[-1] - 0x30, lines)
    _classify(request)
    _ask_llhttp(head, method)
    if target[0] != 0x2F:
        _normalise_target(request)
    return request


def _ask_llhttp(head: bytes, method: bytes) -> None:
    try:
        httptools.HttpRequestParser(SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:
        if method == b"CONNECT":
            raise UnknownMethod("This gateway is no forward proxy: CONNECT is not offered.") from None
    except httptools.HttpParserInvalidMethodError:
        raise UnknownMethod from None
    except httptools.HttpParserError:
        raise BadRequest from None
    _methods.add(method)


def _classify(request: RequestHead) -> None:
    known = _request_fields
    found = request._fields
    for index, line in enumerate(request.lines):
        field = known[line]
        if field is not None:
            found.append((index, field))
    hosts = 0
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    drop = request._drop
    for index, field in found:
        kind, _, value = field
        if kind == HOST:
            hosts += 1
            request.host = value
        elif kind == LENGTH:
            lengths.append(value)
        elif kind == CONNECTION:
            connection.append(value)
            drop.append(index)
        elif kind == CODING:
            codings.append(value)
            drop.append(index)
        else:
            _note(request, index, field)
    if request._credentials:
        _note_routing(request)
    # HTTP/1.0 has no Host (probes of old load balancers send none); everything else has exactly one.
    if (hosts or request.minor) and (hosts != 1 or not framing.is_host(request.host)):
        raise BadRequest("there must be one valid Host")
    if lengths or codings:
        request.length = framing.body_length(lengths, codings, request.minor) or 0
    if connection:
        _read_connection(request, b",".join(connection).lower())
    elif request.minor == 0:
        request.keep_alive = False
    request.replayable = not request.length and request.method in _REPLAYABLE


def _note(request: RequestHead, index: int, field: Field) -> None:
    """The rarer lines."""
    kind, name, value = field
    if kind == COOKIE:
        request.has_our_cookies = True
    elif kind >= INGRESS_TO:
        request._credentials.append(index)
    elif kind == AUTHORIZATION:
        request.authorization = value
    elif kind == ORIGIN:
        request.origin = value
    elif kind == REQUEST_ID and request.request_id is None and _is_request_id(value):
        request.request_id = value
    elif kind == TE and b"trailers" in [word.strip(b" \t") for word in value.lower().split(b",")]:
        # Only this word means the same on both of our sides; codings are negotiated hop by hop (RFC 9110 §10.1.4).
        if len(value) > len(b"trailers"):
            request.lines[index] = b"TE: trailers"
    elif kind == TWIN:
        raise BadRequest("a header name spells a reserved one with underscores")
    elif kind == EXPECT:
        if value.lower() != b"100-continue":
            raise BadRequest("the only expectation there is, is 100-continue")
        if request.minor == 0:
            request._drop.append(index)
    else:
        request._drop.append(index)
        if kind == FORWARDED:
            if request.forwarded is None:
                request.forwarded = {}
            held = request.forwarded.get(name)
            request.forwarded[name] = value if held is None else held + b", " + value


def _note_routing(request: RequestHead) -> None:
    """The lines meant for this platform."""
    ingress: dict[int, bytes] = {}
    for _, (kind, _, value) in request._fields:
        if kind == RENEW:
            request.skips_renewal = value == b"skip"
        elif kind == TOKEN:
            if request.token is not None:
                raise BadRequest("there must be one OpenSandbox-Secure-Access only")
            request.token = value
        elif kind in (INGRESS_TO, INGRESS_OLD):
            if kind in ingress:
                raise BadRoute("There must be one header only that names the sandbox.")
            ingress[kind] = value
    if len(set(ingress.values())) > 1:
        raise BadRoute("OpenSandbox-Ingress-To and OPEN-SANDBOX-INGRESS name different sandboxes. Send the first only.")
    request.ingress_to = next(iter(ingress.values()), None)


def _read_connection(request: RequestHead, value: bytes) -> None:
    if value == b"keep-alive":
        return
    if has_too_many(value):
        raise BadRequest("Connection names too many headers")
    tokens = {token.strip(b" \t") for token in value.split(b",")}
    request.keep_alive = b"close" not in tokens and (request.minor == 1 or b"keep-alive" in tokens)
    if b"upgrade" in tokens and not request.length and request.minor == 1:
        offers = b", ".join(field.value for _, field in request._fields if field.kind == UPGRADE)
        if has_too_many(offers):
            raise BadRequest("Upgrade names too many protocols")
        # h2c would hand the connection to a protocol whose requests we could not see (RFC 9113 dropped it).
        if not any(offer.strip(b" \t").startswith(b"h2") for offer in offers.lower().split(b",")):
            request.upgrade = offers
    named = tokens - {b"", b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"}
    if named:
        if named & _PROTECTED:
            raise BadRequest("Connection names a header that frames or routes the message")
        request._drop.extend(lines_named(request.lines, named, request._drop + request._credentials))


def _normalise_target(request: RequestHead) -> None:
    """Absolute-form becomes origin-form when its authority is the Host; `*` stays (RFC 9112 §3.2)."""
    target = request.target
    if target == b"*":
        if request.method != b"OPTIONS":
            raise BadRequest("the request target '*' goes with OPTIONS only")
        return
    match = _ABSOLUTE(target)
    if match is None:
        raise BadRequest("the request target must be a path")
    authority, path = match.groups()
    if authority.lower() != request.host.lower():
        raise BadRequest("the request target names another host than the Host header")
    request.target = path if path[:1] == b"/" else b"/" + path


_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)").fullmatch


def _diagnose(line: bytes) -> GatewayError:
    words = line.split(b" ")
    if len(words) == 3 and _is_version(words[2]) and words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return UnsupportedVersion()
    return BadRequest("the request line is malformed")


def build_request(request: RequestHead, target: bytes, lines: bytes, added: bytes) -> bytes:
    """The head that goes upstream but for its empty line: `lines` of the client, then `added`, each ending in CR LF."""
    if request.length == framing.CHUNKED:
        added += b"Transfer-Encoding: chunked\r\n"
    elif request.upgrade:
        added += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade
    if not request.host:
        added += b"Host: localhost\r\n"
    return b"%b %b HTTP/1.1\r\n%b%b" % (request.method, target, lines, added)
