"""Response headers that a sandbox may not send: one table of names, each with its reason.

What a browser or a proxy applies to more than the one answer concerns others than the sandbox that says it:

* orders to a proxy in front of us (send that file, fetch that address, forget your cache, take this server out of
  service), and what browsers apply to the whole site: withheld in every way of addressing;
* what browsers apply to the whole origin: withheld wherever sandboxes share one, which is everywhere but in the host
  form, where an origin is one port of one sandbox.

It holds for every status, interim answers and switched protocols included. As trailers none of them travels on, since a
proxy may merge trailers into the head. Headers that concern one page or one file only (policies of a document, its
preloads, source maps) are not in the table. Cookies are not withheld but confined (`prefix`), except our own.
"""

from __future__ import annotations

from typing import Final

_FAMILIES: Final = (b"x-accel-", b"x-envoy-", b"x-lighttpd-", b"x-litespeed-", b"x-reproxy-", b"x-sendfile")
"""Starts of names that nginx, Envoy, lighttpd, LiteSpeed, Perlbal and H2O, and mod_xsendfile take as orders."""

_ORDERS: Final = (
    b"edge-control",  # these two have caches run the body as ESI, which fetches other addresses
    b"surrogate-control",
    b"endpoint-load-metrics",  # these move other servers' load (Envoy, gRPC)
    b"endpoint-load-metrics-bin",
)
_SITE: Final = (b"clear-site-data",)  # its "cookies" are those of the whole registrable domain
_EVERYWHERE: Final = frozenset(_ORDERS + _SITE)

_ORIGIN: Final = frozenset(
    (
        b"accept-ch",
        b"accept-ch-lifetime",
        b"alt-svc",
        b"critical-ch",
        b"expect-ct",
        b"nel",
        b"origin-agent-cluster",
        b"origin-isolation",
        b"public-key-pins",
        b"public-key-pins-report-only",
        b"report-to",
        b"sec-session-challenge",
        b"sec-session-registration",
        b"secure-session-challenge",
        b"secure-session-registration",
        b"service-worker-allowed",
        b"set-login",
        b"shared-storage-write",
        b"strict-transport-security",
        b"use-as-dictionary",
    )
)

_HARMLESS: Final = frozenset((b"x-accel-buffering",))
"""Concerns this answer only, and event streams behind nginx need it."""


def everywhere(name: bytes) -> bool:
    """Whether no sandbox may send a header of this lower-case name, with `-` where some write `_`."""
    return name in _EVERYWHERE or (name.startswith(_FAMILIES) and name not in _HARMLESS)


def origin_wide(name: bytes) -> bool:
    """Whether it may only where it has its origin for itself."""
    return name in _ORIGIN
