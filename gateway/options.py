"""Everything the data plane is told before it starts, as one frozen record.

A gateway is made with it, and worker processes get the same record, so an option is spelled once: here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.addressing.routing import RoutingConfig
from gateway.limits import Limits


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What the data plane does or leaves."""

    routing: RoutingConfig = field(default_factory=RoutingConfig)
    """Which ways of addressing a sandbox are active."""
    limits: Limits = field(default_factory=Limits)
    """Sizes, counts and timeouts of one process."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of the proxies whose forwarding headers are believed."""
    cors_origins: frozenset[bytes] = frozenset()
    """Pages of which other origins may call every sandbox; `*` is any, without cookies."""
    access_log_sample: float | None = None
    """Share of exchanges that get a line in the access log; None switches it off."""
    upstream_host: bool = False
    """Whether sandboxes see their own address as Host, instead of the public one."""
    standard_forwarded: bool = False
    """Whether the Forwarded header of RFC 7239 is sent beside the X-Forwarded ones."""
    proxy_protocol: bool = False
    """Whether clients come by way of a proxy that says who they are before the first byte."""
    proxy_needs_key: bool = False
    """Whether `/sandboxes/{id}/proxy/` is for holders of an API key only."""
    rewrite_prefix: bool = True
    """Whether redirects and cookies of a sandbox reached by a path are confined to that path."""
    link_cookies: bool = True
    """Whether a browser that opens a signed link gets a cookie and an address without the signature."""
    referer_fallback: bool = True
    """Whether a request from a page under a sandbox's path goes to that sandbox, by its Referer or a cookie."""
