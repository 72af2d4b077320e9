"""The four ways to address a port of a sandbox, both ways: request → `Route`, and route → address.

    header   OpenSandbox-Ingress-To: <id>-<port>[-<expires>-<signature>][.anything]
    host     Host: <id>-<port>[-<expires>-<signature>].<wildcard domain>
    proxy    /[v1/]sandboxes/<id>/proxy/<port>[/…]
    uri      [<mount>]/<id>/<port>[/<expires>/<signature>][/…]

They are tried in this order and the first that applies decides: an address that has the shape of a sandbox address and
is not a valid one is refused, it never becomes a call of the API. Only bytes are looked at and nothing is decoded:
what goes upstream is a suffix of what the client sent, so `%2F` is never a separator and `..` is never resolved.

Ids hold dashes, so labels are read from the right, the signed form first. That is not ambiguous: a port has at most
five digits, a signature is longer. Only in paths can a signed address look like an unsigned one whose application
path happens to start with two such segments; the route then carries both readings and the sandbox decides.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.errors import BadRoute
from gateway.signing import Signature

MAX_LABEL: Final = 63
"""Longest label of a host name in DNS."""

RESERVED: Final = frozenset(
    b"v1 sandboxes pools templates snapshots volumes health ready version status.ok "
    b"docs redoc openapi.json metrics console favicon.ico robots.txt .well-known".split()
)
"""First path segments that are the manager's, hence never an id in the uri form."""

_CACHED: Final = 16384
_CACHED_BYTES: Final = 256

_ID: Final = rb"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_PORT: Final = rb"[1-9][0-9]{0,4}"
_EXPIRES: Final = rb"0|[1-9a-z][0-9a-z]{0,12}"
_SIGNATURE: Final = rb"[0-9a-f]{8}[0-9a-z]|2[0-9a-z]{28}"
_END: Final = rb"(?=[/?]|\Z)"
SIGNED: Final = rb"(?:%b)-(?:%b)" % (_EXPIRES, _SIGNATURE)
"""Pattern of expiry and code as a label holds them."""

_LABEL = re.compile(rb"(%b)-(%b)(?:-(%b)-(%b))?" % (_ID, _PORT, _EXPIRES, _SIGNATURE))
_HOST_PORT = re.compile(rb":[0-9]*\Z")
_HEADER_REST = re.compile(rb"(?:\.[A-Za-z0-9.-]*(?::[0-9]{1,5})?)?")
_PROXY = re.compile(rb"((?:/v1)?/sandboxes/(%b)/proxy/(%b))%b" % (_ID, _PORT, _END))
_LIKE_PROXY = re.compile(rb"(?:/v1)?/sandboxes/[^/?]*/proxy" + _END)
_URI = re.compile(rb"/(%b)/(%b)%b(?:/(%b)/(%b)%b)?" % (_ID, _PORT, _END, _EXPIRES, _SIGNATURE, _END))
_FULL_ID = re.compile(_ID)

_MAX_PORT: Final = 65535
_MAX_EXPIRES: Final = 2**64 - 1


_FIRST = re.compile(rb"/([^/?]*)/")
"""The first of at least two path segments."""


class AddressForm(enum.IntEnum):
    """The address form of a request; the number is an index of the counters."""

    HEADER = 0
    HOST = 1
    PROXY = 2
    URI = 3


@dataclass(slots=True)
class Route:
    """The address of a request. Immutable by convention: a frozen dataclass is slower to create."""

    form: AddressForm
    id: bytes
    port: int
    signature: Signature | None
    target: bytes
    """What goes upstream as request target, byte for byte."""
    prefix: bytes
    """The part of the public path that was taken away; empty in the header and host forms."""
    unsigned: Route | None
    """The reading of a signed-looking path as an unsigned address, for sandboxes that ask for no credential."""


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """Which forms are active. Without `gateway` only the proxy form is."""

    gateway: bool = False
    uri: bool = False
    wildcard: bytes | None = None
    """The domain of the host form: without `*.`, without port, in lower case."""
    api_hosts: frozenset[bytes] = frozenset()
    """Hosts under the wildcard domain that are the manager's own: lower case, without port."""
    mount: bytes = b""
    """A path in front of uri addresses (`/gw`), where the public address carries one; without it they work too."""


_Found = TypeVar("_Found", Route, Route | None)


class Router:
    """Finds the sandbox port that a request addresses."""

    __slots__ = ("_config", "_headers", "_hosts", "_suffix")

    def __init__(self, config: RoutingConfig) -> None:
        self._config = config
        self._suffix = None if config.wildcard is None else b"." + config.wildcard.lower()
        # Parsed host and header texts. None: a host that is no sandbox address. Clients choose the keys, so both
        # are bounded in number and in the length of a key, and start anew when full.
        self._hosts: dict[bytes, Route | None] = {}
        self._headers: dict[bytes, Route] = {}

    def route(self, target: bytes, host: bytes, ingress_to: bytes | None) -> Route | None:
        """The sandbox port addressed, or None when the request is for the manager; raises `BadRoute`.

        `host` is the value of the one Host header, `ingress_to` that of the routing header if the request has one.
        """
        if not self._config.gateway:
            return _proxy_route(target)
        if ingress_to is not None:
            found: Route | None = self._headers.get(ingress_to) or self._from_header(ingress_to)
        else:
            try:
                found = self._hosts[host]
            except KeyError:
                found = self._from_host(host)
        if found is not None:
            return Route(found.form, found.id, found.port, found.signature, target, b"", None)
        return self._from_path(target)

    def under_prefix(self, path: bytes) -> Route | None:
        """The sandbox port under whose prefix a path lies, or None; raises nothing."""
        try:
            return self._from_path(path) if self._config.gateway else _proxy_route(path)
        except BadRoute:
            return None

    def _from_header(self, value: bytes) -> Route:
        text = value.strip(b" \t").removeprefix(b"https://").removeprefix(b"http://")
        label, dot, rest = text.partition(b".")
        if _HEADER_REST.fullmatch(dot + rest) is None:
            raise BadRoute(_HEADER_HELP)
        route = _parse_label(AddressForm.HEADER, label, _HEADER_HELP)
        _remember(self._headers, value, route)
        return route

    def _from_host(self, host: bytes) -> Route | None:
        name = _HOST_PORT.sub(b"", host).lower()
        name = name.removesuffix(b".")
        route = None
        if self._suffix is not None and name.endswith(self._suffix) and name not in self._config.api_hosts:
            route = _parse_label(AddressForm.HOST, name[: -len(self._suffix)], _HOST_HELP)
        _remember(self._hosts, host, route)
        return route

    def _from_path(self, target: bytes) -> Route | None:
        found = _proxy_route(target)
        if found is not None or not self._config.uri:
            return found
        mount = self._config.mount
        if mount and target.startswith(mount + b"/"):
            found = _uri_route(target, len(mount))
        return found or _uri_route(target, 0)


_HEADER_HELP = (
    "The routing header is not a sandbox address. Send <sandbox id>-<port>, "
    "or <sandbox id>-<port>-<expires>-<signature>, with a port from 1 to 65535."
)
_HOST_HELP = (
    "This host name is not a sandbox address. It is <sandbox id>-<port>, "
    "or <sandbox id>-<port>-<expires>-<signature>, in front of the domain, with a port from 1 to 65535."
)
_PROXY_HELP = (
    "This path is not a sandbox address. It is /sandboxes/<sandbox id>/proxy/<port>/, with a port from 1 to 65535."
)
_URI_HELP = (
    "This path is not a sandbox address. It is /<sandbox id>/<port>/, "
    "or /<sandbox id>/<port>/<expires>/<signature>/, with a port from 1 to 65535."
)


def format_label(id: str, port: int, signature: Signature | None = None) -> str:
    """The text of a routing header, and the first label of a sandbox's host name.

    Raises ValueError for an id or a port that no address can hold.
    """
    if _FULL_ID.fullmatch(id.encode()) is None:
        raise ValueError(f"no address can hold the id {id!r}: letters, digits, '-' and '_', at most 63")
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"port {port} is not from 1 to {_MAX_PORT}")
    if signature is None:
        return f"{id}-{port}"
    return f"{id}-{port}-{signature.expires.decode()}-{signature.value.decode()}"


def format_host(domain: str, id: str, port: int, signature: Signature | None = None) -> str:
    """The host name under `domain` (which may carry a port); raises ValueError when DNS could not carry it."""
    label = format_label(id, port, signature)
    if len(label) > MAX_LABEL:
        raise ValueError(f"the host name would start with {len(label)} characters and DNS allows {MAX_LABEL}")
    if id != id.lower():
        raise ValueError(f"the id {id!r} has capital letters, which host names do not keep")
    return f"{label}.{domain}"


def format_path(id: str, port: int, signature: Signature | None = None) -> str:
    """The path of the uri form, from the leading slash, without a slash at the end."""
    format_label(id, port)
    path = f"/{id}/{port}"
    return path if signature is None else f"{path}/{signature.expires.decode()}/{signature.value.decode()}"


def format_proxy(id: str, port: int, *, version: bool = False) -> str:
    """The path through the API's own address, under `/v1` if `version`, without a slash at the end."""
    format_label(id, port)
    return f"{'/v1' if version else ''}/sandboxes/{id}/proxy/{port}"


def _remember(cache: dict[bytes, _Found], key: bytes, found: _Found) -> None:
    if len(key) > _CACHED_BYTES:
        return
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = found


def _parse_label(form: AddressForm, label: bytes, help: str) -> Route:
    match = _LABEL.fullmatch(label)
    if match is None or int(match[2]) > _MAX_PORT:
        raise BadRoute(help)
    signature = _signature(match[3], match[4])
    if signature is None and match[3] is not None:
        raise BadRoute(help)
    return Route(form, match[1], int(match[2]), signature, b"/", b"", None)


def _signature(expires: bytes | None, value: bytes | None) -> Signature | None:
    if expires is None or value is None or int(expires, 36) > _MAX_EXPIRES:
        return None
    return Signature(expires, value)


def _proxy_route(target: bytes) -> Route | None:
    if b"/proxy" not in target:
        return None
    match = _PROXY.match(target)
    if match is None or int(match[3]) > _MAX_PORT:
        if _LIKE_PROXY.match(target) is None:
            return None
        raise BadRoute(_PROXY_HELP)
    prefix, sandbox, digits = match.groups()
    return _route(AddressForm.PROXY, sandbox, int(digits), None, target, prefix, None)


def _uri_route(target: bytes, start: int) -> Route | None:
    match = _URI.match(target, start)
    if match is None or int(match[2]) > _MAX_PORT or match[1] in RESERVED:
        first = _FIRST.match(target, start)
        if first is None or first[1] in RESERVED:
            return None
        raise BadRoute(_URI_HELP)
    sandbox, digits, expires, value = match.groups()
    port = int(digits)
    unsigned = _route(AddressForm.URI, sandbox, port, None, target, target[: match.end(2)], None)
    signature = _signature(expires, value)
    if signature is None:
        return unsigned
    return _route(AddressForm.URI, sandbox, port, signature, target, target[: match.end()], unsigned)


def _route(
    form: AddressForm,
    id: bytes,
    port: int,
    signature: Signature | None,
    target: bytes,
    prefix: bytes,
    unsigned: Route | None,
) -> Route:
    """The route behind a prefix of the target. An address without a path means the root, query kept."""
    rest = target[len(prefix) :]
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return Route(form, id, port, signature, rest, prefix, unsigned)
