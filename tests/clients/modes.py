"""The five ways a released client reaches a sandbox, each as a server configuration and a client configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.transport import RetryAsyncTransport, RetryPolicy, RetrySyncTransport

from tests.server_process import ServerProcess

API_KEY = "key-of-the-client-tests"
WILDCARD_DOMAIN = "sandboxes.test"
SIGNING = {"active_key": "k", "keys": [{"key_id": "k", "key": "c2VjcmV0IG9mIHRoZSBjbGllbnQgdGVzdHM="}]}

Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Mode:
    """How the server answers endpoints and whether the client asks for the server's own proxy path."""

    name: str
    route: str | None = None
    use_server_proxy: bool = False

    def __str__(self) -> str:
        return self.name

    def tables(self, port: int) -> Tables:
        """The server's configuration for this mode."""
        server: Tables = {"server": {"api_key": API_KEY}}
        if self.route is None:
            return server | {"ingress": {"mode": "direct"}}
        address = f"*.{WILDCARD_DOMAIN}:{port}" if self.route == "wildcard" else f"127.0.0.1:{port}"
        return server | {
            "ingress": {"mode": "gateway"},
            "ingress.gateway": {"address": address},
            "ingress.gateway.route": {"mode": self.route},
            "ingress.secure_access": SIGNING,
        }


MODES = {
    mode.name: mode
    for mode in (
        Mode("direct"),
        Mode("server-proxy", use_server_proxy=True),
        Mode("header", route="header"),
        Mode("wildcard", route="wildcard"),
        Mode("uri", route="uri"),
    )
}


def here(request: httpx.Request) -> httpx.Request:
    """Sends names under the wildcard domain to this machine, as a name server would; the Host header stays.

    No resolver of the system knows a wildcard without being set up as root, so the client's transport, an option of
    the released SDK, stands in for one inside this process. Programs get a resolver that does know it: see `names`.
    """
    if request.url.host.endswith("." + WILDCARD_DOMAIN):
        request.url = request.url.copy_with(host="127.0.0.1")
    return request


class LocalNames(httpx.AsyncHTTPTransport):
    """The SDK's usual transport with the wildcard domain resolved."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await super().handle_async_request(here(request))


class LocalNamesSync(httpx.HTTPTransport):
    """The same for the synchronous SDK."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return super().handle_request(here(request))


def connection(server: ServerProcess, mode: Mode, **options: Any) -> ConnectionConfig:
    """What a user of the SDK writes for this server and mode."""
    if mode.name == "wildcard":
        options["transport"] = RetryAsyncTransport(LocalNames(), RetryPolicy(), owns_inner=True)
    return ConnectionConfig(**{**settings(server, mode), **options})


def connection_sync(server: ServerProcess, mode: Mode, **options: Any) -> ConnectionConfigSync:
    """The same for the synchronous SDK."""
    if mode.name == "wildcard":
        options["transport"] = RetrySyncTransport(LocalNamesSync(), RetryPolicy(), owns_inner=True)
    return ConnectionConfigSync(**{**settings(server, mode), **options})


def settings(server: ServerProcess, mode: Mode) -> dict[str, Any]:
    """What both kinds of client are told."""
    return {
        "domain": server.address,
        "api_key": server.api_key,
        "use_server_proxy": mode.use_server_proxy,
        "disable_metrics": True,
    }
