"""Applications behind a path prefix: which headers are rewritten so that applications written for `/` work.

In the uri and proxy forms an application at `/sb/8080/` sees `/`. Applications that read `X-Forwarded-Prefix` need
nothing of this. For the others, and each only where something really points outside the prefix:

* `Location`, `Content-Location`, `Refresh` and `Link` to `/x` or to the public host get the prefix in front;
* cookies are confined: `Path` is put under the prefix, and a `Domain` that holds the public host is taken out (scripts
  are not: all that is under one host name is one origin to a browser; what it applies to a whole one, see `withheld`);
* `/sb/8080` is redirected to `/sb/8080/`, or relative links would lead to `/sb/`;
* a request for `/static/x` that comes from a page under a prefix (by its Referer, or by a cookie, since WebSockets have
  no Referer) is sent where that page lives.

Everything else passes byte for byte; bodies are never touched. Pure functions on bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.addressing.routing import RESERVED, Route, Router
from gateway.addressing.signed_links import last_prefixes
from gateway.errors import UpstreamInvalid

_LINES: Final = re.compile(
    rb"^(location|content-location|refresh|link|set-cookie):([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
_ABSOLUTE: Final = re.compile(rb"(?:(https?):)?//([^/?#\\]*)(.*)", re.IGNORECASE | re.DOTALL)
_REFRESH: Final = re.compile(
    rb"(\s*+[0-9.]++(?:\s*+[;,]\s*+|\s++)(?:url\s*+=\s*+)?[\"']?)([^\"']*+)(.*)", re.IGNORECASE | re.DOTALL
)
"""From the start of the value, as browsers read it (HTML, "shared declarative refresh steps")."""
_LINK: Final = re.compile(rb"<([^<>]*)>")
_REFERER: Final = re.compile(rb"https?://([^/?#]*)(/[^?#]*)?.*", re.IGNORECASE | re.DOTALL)
_FIRST_SEGMENT: Final = re.compile(rb"/([^/?]+)")
_MOST_PLACES: Final = 1000
"""Links and cookie attributes that are rewritten in one head: each costs a microsecond, and no real answer has 100."""
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}


def rewrite(block: bytes, prefix: bytes, host: bytes, *, outside: bool = False, sent: bytes = b"") -> bytes:
    """Header lines (each ending in CR LF) of an answer from under `prefix`; `host` is the request's Host.

    `outside` says that the request was for a path outside the prefix: for that a cookie without a path would be set.
    `sent` is the Host that the application was sent instead, if it was: what points there comes home.
    The same object comes back when nothing has to change. Raises UpstreamInvalid when there is too much to change.
    """
    if not (prefix or sent) or _LINES.search(block) is None:
        return block
    left = _MOST_PLACES

    def replace(line: re.Match[bytes]) -> bytes:
        nonlocal left
        name, value = line[1].lower(), line[2]
        left -= 1 + value.count(b"<" if name == b"link" else b";")
        if left < 0:
            raise UpstreamInvalid("The answer's head holds more links and cookies than a gateway can correct.")
        if name == b"set-cookie":
            hosts = (host, sent) if sent else (host,)
            changed = _confine(value, prefix, hosts, outside=outside)
        else:
            changed = _each_url(name, value, lambda url: _relocate(_at_home(url, sent), prefix, host))
        return line[1] + b":" + changed

    return _LINES.sub(replace, block)


def come_home(block: bytes, sent: bytes) -> bytes:
    """The same where there is no prefix: addresses of `sent`, the Host that the application was sent, lose it.

    What is left is a path, which a client resolves against the address that it has asked (RFC 9110 §10.2.2).
    Raises as `rewrite`.
    """
    return rewrite(block, b"", b"", sent=sent)


def _each_url(name: bytes, value: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The value of one of the lines that hold URLs, with each of them changed."""
    if name == b"link":
        return _LINK.sub(lambda m: b"<" + change(m[1]) + b">", value)
    if name == b"refresh":
        found = _REFRESH.match(value)
        return value if found is None else found[1] + change(found[2]) + found[3]
    return change(value)


def slash_redirect(target: bytes, prefix: bytes) -> bytes | None:
    """Where to send a browser that asks for the prefix itself without a slash behind it, else None."""
    if not prefix or not target.startswith(prefix):
        return None
    rest = target[len(prefix) :]
    return None if rest.startswith(b"/") else prefix + b"/" + rest


def fallback(
    router: Router, target: bytes, host: bytes, referer: bytes | None, cookies: bytes | None, *, upgrade: bool = False
) -> Route | None:
    """The sandbox that a request outside every prefix belongs to, going by where it comes from.

    A Referer under a prefix is certain, so even the manager's own names belong to the sandbox then: the page means its
    own `/docs`, and must not reach ours. One that names no sandbox, as of a page that has replaced its address by `/`,
    says no more than none, unless it is a page of the manager's. The cookie is a guess, which leaves `/` and the
    manager's names alone. The result has `target` as it is, and the prefix of the page. A request that may be
    redirected should be, to prefix and target, so that what it loads comes from there too.
    """
    if not target.startswith(b"/"):
        return None
    page = page_of(host, referer)
    if page is not None:
        found = _belongs(router, page, target)
        if found is not None or _is_reserved(page):
            return found
    if _FIRST_SEGMENT.match(target) is None:
        # A navigation to `/` leaves the application; a WebSocket there belongs to the page that opens it.
        if not upgrade:
            return None
    elif _is_reserved(target):
        return None
    for last in last_prefixes(cookies):
        route = _belongs(router, last, target)
        if route is not None:
            return route
    return None


def _is_reserved(path: bytes) -> bool:
    """Whether it begins with a name of the manager's."""
    first = _FIRST_SEGMENT.match(path)
    return first is not None and first[1] in RESERVED


def _belongs(router: Router, path: bytes, target: bytes) -> Route | None:
    route = router.under_prefix(path)
    if route is None:
        return None
    unsigned = route.unsigned
    return replace(route, target=target, unsigned=unsigned and replace(unsigned, target=target))


def page_of(host: bytes, referer: bytes | None) -> bytes | None:
    """The path of the page that a request comes from, when it is one of this host."""
    match = None if referer is None else _REFERER.fullmatch(referer)
    if match is None or match[1].lower() != host.lower():
        return None
    return match[2] or b"/"


def _at_home(value: bytes, sent: bytes) -> bytes:
    """A URL of the authority `sent` as the path that is left of it, any other as it is."""
    absolute = _ABSOLUTE.fullmatch(value.strip(b" \t")) if sent else None
    if absolute is None or absolute[3].startswith(b"\\"):
        return value
    if not same_host(absolute[2], sent, (absolute[1] or b"").lower()):
        return value
    path = absolute[3] if absolute[3].startswith(b"/") else b"/" + absolute[3]
    lead = value[: len(value) - len(value.lstrip(b" \t"))]
    # `//other/` and `/\\other/` alone would be another host's address (WHATWG URL, "relative slash state").
    return lead + (b"/." + path if path[1:2] in (b"/", b"\\") else path)


def _relocate(value: bytes, prefix: bytes, host: bytes) -> bytes:
    """A URL with the prefix in front of its path, when it points to this host and outside the prefix."""
    if not prefix:
        return value
    url = value.strip(b" \t")
    lead = value[: len(value) - len(value.lstrip(b" \t"))]
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is not None:
        # What follows a backslash is a path for browsers and part of the host for others: nobody's to repair.
        if absolute[3].startswith(b"\\") or not same_host(absolute[2], host, (absolute[1] or b"").lower()):
            return value
        origin, path = url[: absolute.start(3)], absolute[3]
        if not path.startswith(b"/"):
            path = b"/" + path
    elif url.startswith(b"/"):
        origin, path = b"", url
    else:
        return value
    return value if _under(path, prefix) else lead + origin + prefix + path


def same_host(authority: bytes, host: bytes, scheme: bytes) -> bool:
    """Whether both name one host and port, one of them perhaps without the scheme's default port."""
    authority, host = authority.lower(), host.lower()
    if authority == host:
        return True
    ports = [_DEFAULT_PORTS[scheme]] if scheme else list(_DEFAULT_PORTS.values())
    return any(authority == host + port or authority + port == host for port in ports)


def _under(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?", b"#")


def _confine(cookie: bytes, prefix: bytes, hosts: tuple[bytes, ...], *, outside: bool) -> bytes:
    """A Set-Cookie value whose Path lies under the prefix and whose Domain is not the public host's."""
    parts = cookie.split(b";")
    kept = [parts[0]]
    has_path = False
    for part in parts[1:]:
        key, equals, value = part.partition(b"=")
        name, bare = key.strip().lower(), value.strip()
        if name == b"domain" and any(_holds(bare, host) for host in hosts):
            continue
        if name == b"path":
            has_path = bare.startswith(b"/")  # the last one counts, and one without a slash is none (RFC 6265 §5.2.4)
            if has_path and not _under(bare, prefix):
                part = key + equals + prefix + (b"" if bare == b"/" else bare)
        kept.append(part)
    if outside and not has_path:
        kept.append(b" Path=" + prefix)
    return b";".join(kept)


def _holds(domain: bytes, host: bytes) -> bool:
    """Whether a cookie for the domain is sent to the host."""
    domain, name = domain.lower().lstrip(b"."), host.lower().partition(b":")[0]
    return bool(domain) and (name == domain or name.endswith(b"." + domain))
