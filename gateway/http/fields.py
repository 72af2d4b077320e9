"""Header lines: what one line means to the gateway, cached per spelling.

Most lines of most heads have been seen before, to the byte. So a line is held against the grammar (RFC 9112 §5) and
classified once, and its fact is remembered under its bytes; after that it costs one dict lookup. Clients and sandboxes
choose the lines, so each memory is bounded in number, of each name too, and in the length of what it keeps, and starts
anew when full.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.errors import GatewayError
from gateway.http import withheld

CREDENTIALS: Final = frozenset(
    {
        b"opensandbox-ingress-to",
        b"open-sandbox-ingress",
        b"opensandbox-secure-access",
        b"opensandbox-access-renew",
        b"open-sandbox-api-key",
        b"open-sandbox-client-ip",
        b"x-fast-sandbox-route-credential",
    }
)
"""Request headers, in lower case, that are meant for this platform and never reach a sandbox."""

# What a header line means to us. Lines without a meaning travel on untouched.
HOST: Final = 1
LENGTH: Final = 2
CODING: Final = 3
CONNECTION: Final = 4
UPGRADE: Final = 5
EXPECT: Final = 6
TE: Final = 7
HOP: Final = 8
FORWARDED: Final = 9
REQUEST_ID: Final = 10
AUTHORIZATION: Final = 11
TWIN: Final = 12
COOKIE: Final = 13
"""A Cookie line with cookies of ours among the application's, or a Set-Cookie line that names one."""
ORIGIN: Final = 14
# From here on: for this platform only, never for a sandbox.
INGRESS_TO: Final = 15
INGRESS_OLD: Final = 16
TOKEN: Final = 17
RENEW: Final = 18
CREDENTIAL: Final = 19
# Of answers only: not a sandbox's to send (`withheld`), anywhere or where sandboxes share an origin.
WITHHELD: Final = 20
ORIGIN_WIDE: Final = 21

OUR_COOKIES: Final = b"opensandbox-"
PEER_HEADER: Final = b"x-gateway-peer"
SCHEME_HEADER: Final = b"x-gateway-scheme"

_HOP_BY_HOP = (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"http2-settings")
_FORWARDED = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-real-ip",
    b"forwarded",
)
_REQUEST_KINDS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"te": TE,
    **dict.fromkeys(_HOP_BY_HOP, HOP),
    **dict.fromkeys(CREDENTIALS, CREDENTIAL),
    b"opensandbox-ingress-to": INGRESS_TO,
    b"open-sandbox-ingress": INGRESS_OLD,
    b"opensandbox-secure-access": TOKEN,
    b"opensandbox-access-renew": RENEW,
    **dict.fromkeys(_FORWARDED, FORWARDED),
    b"x-request-id": REQUEST_ID,
    b"authorization": AUTHORIZATION,
    b"cookie": COOKIE,
    b"origin": ORIGIN,
    PEER_HEADER: HOP,
    SCHEME_HEADER: HOP,
}
_RESPONSE_KINDS: Final[dict[bytes, int]] = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"keep-alive": HOP,
    b"proxy-connection": HOP,
    b"proxy-authenticate": HOP,
    b"set-cookie": COOKIE,
}
# A server behind us that reads `_` as `-` (CGI, WSGI) would take these for the real ones.
_NO_TWIN = frozenset(_REQUEST_KINDS) - {
    b"host",
    b"te",
    b"upgrade",
    b"connection",
    b"expect",
    b"authorization",
    b"cookie",
}
# Trailers may add facts about the content, never about framing, routing or credentials (RFC 9110 §6.5.1).
_NO_TRAILER = frozenset(_REQUEST_KINDS) | {b"trailer", b"cookie", b"set-cookie", b"content-encoding", b"content-type"}

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++").fullmatch
_is_value = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*+").fullmatch

_REMEMBERED: Final = 8192
_REMEMBERED_OF_ONE_NAME: Final = 256
"""Lines remembered of each name: of one that is another each time, such as a trace id, all would be for nothing."""
_REMEMBERED_BYTES: Final = 256


class Field(NamedTuple):
    """A header line that the gateway acts on."""

    kind: int
    name: bytes
    """In lower case."""
    value: bytes
    """Without the white space around it."""


class _Name:
    """What a field name, as somebody spells it, means."""

    __slots__ = ("kind", "left", "lower")

    def __init__(self, kind: int, lower: bytes) -> None:
        self.kind = kind
        self.lower = lower
        # A credential is not worth keeping in memory for longer than its request.
        self.left = 0 if kind in _SECRET else _REMEMBERED_OF_ONE_NAME
        """How many lines more of this name are remembered."""


class KnownLines(dict[bytes, Field | None]):
    """Header lines (without their CR LF) → what they mean; None for those that just pass.

    `lines[line]` of a line not seen before learns it, or raises `malformed` when it is no header line.
    """

    def __init__(self, kind_of: Callable[[bytes], int], malformed: type[GatewayError]) -> None:
        super().__init__()
        self._kind_of = kind_of
        self._names: dict[bytes, _Name] = {}
        self._malformed = malformed

    def __missing__(self, line: bytes) -> Field | None:
        name, colon, value = line.partition(b":")
        known = self._names.get(name)
        if known is None:
            known = self._learn(name)
        if not colon or _is_value(value) is None:
            raise self._malformed
        kind = known.kind
        if kind == COOKIE and OUR_COOKIES not in value:
            kind = 0
        field = Field(kind, known.lower, value.strip(b" \t")) if kind else None
        if known.left and kind != COOKIE and len(line) <= _REMEMBERED_BYTES:
            if len(self) >= _REMEMBERED:
                self.clear()
                self._names.clear()
            known.left -= 1
            self[line] = field
        return field

    def _learn(self, name: bytes) -> _Name:
        if _is_name(name) is None:
            raise self._malformed
        lower = name.lower()
        known = _Name(self._kind_of(lower), lower)
        if len(self._names) >= _REMEMBERED:
            self._names.clear()
        if len(name) <= _REMEMBERED_BYTES:
            self._names[name] = known
        return known


_SECRET = frozenset((AUTHORIZATION, TOKEN, CREDENTIAL))


def _request_kind(name: bytes) -> int:
    kind = _REQUEST_KINDS.get(name, 0)
    return TWIN if not kind and b"_" in name and name.replace(b"_", b"-") in _NO_TWIN else kind


def _response_kind(name: bytes) -> int:
    kind = _RESPONSE_KINDS.get(name, 0)
    if kind:
        return kind
    name = name.replace(b"_", b"-")
    return WITHHELD if withheld.everywhere(name) else ORIGIN_WIDE if withheld.origin_wide(name) else 0


def request_lines(malformed: type[GatewayError]) -> KnownLines:
    """A memory for the lines of requests."""
    return KnownLines(_request_kind, malformed)


def response_lines(malformed: type[GatewayError]) -> KnownLines:
    """A memory for the lines of responses."""
    return KnownLines(_response_kind, malformed)


def filter_trailers(trailers: bytes) -> bytes:
    """Trailer lines that may travel on (each ends in CR LF)."""
    if not trailers:
        return b""
    kept = [line for line in trailers.split(b"\r\n") if line and _may_trail(line.partition(b":")[0])]
    return b"".join(b"%b\r\n" % line for line in kept)


def _may_trail(name: bytes) -> bool:
    name = name.lower().replace(b"_", b"-")
    return name not in _NO_TRAILER and not withheld.everywhere(name) and not withheld.origin_wide(name)
