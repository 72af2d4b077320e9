"""A server without a key answers under its own names only: what a page has pointed at it by DNS is refused."""

from __future__ import annotations

from typing import Any

import pytest

from manager.api.hosts import OwnHosts
from tests.manager.api.conftest import Api, OpenApi

KEY = "the-key-of-tests"
STRANGERS = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example",
    "box",
]
OWN = [
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    "box.localhost:1",
    "127.0.0.1",
    "127.8.9.1:80",
    "[::1]:8080",
    "192.0.2.7",
]
PATHS = ["/sandboxes", "/v1/sandboxes", "/docs", "/redoc", "/openapi.json", "/version", "/metrics", "/nothing", "/"]
NAMES: dict[str, Any] = {
    "server": {"eip": "https://eip.test:8443/base", "allowed_hosts": ["Mine.test", "*.ours.test"]},
    "ingress": {
        "mode": "gateway",
        "gateway": {
            "address": "gw.test/boxes",
            "route": {"mode": "uri"},
            "wildcard": "*.wild.test",
            "api_hosts": ["api.wild.test"],
        },
    },
}


def rebound(host: str) -> dict[str, str]:
    """What a browser sends for a page whose own name has been pointed here."""
    return {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", STRANGERS)
async def test_strangers(api: Api, host: str, path: str) -> None:
    """A name that is not ours gets nothing, neither the API nor a page, although origin and Host agree."""
    status, body = await api.call("GET", path, headers=rebound(host))
    assert (status, body["code"]) == (421, "MISDIRECTED_REQUEST")
    assert "server.allowed_hosts" in body["message"]


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_strangers_change_nothing(api: Api, method: str) -> None:
    """Likewise changes, and questions beforehand."""
    headers = rebound("evil.example") | {"Access-Control-Request-Method": "POST"}
    assert (await api.call(method, "/sandboxes", headers=headers))[0] == 421


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_probes(api: Api, path: str) -> None:
    """Load balancers ask for health under whatever name they have."""
    assert (await api.call("GET", path, headers={"Host": "evil.example"}))[0] == 200


@pytest.mark.parametrize("host", OWN)
async def test_own_names(api: Api, host: str) -> None:
    """Addresses and the names of this machine are nobody else's."""
    assert (await api.call("GET", "/sandboxes", headers=rebound(host)))[0] == 200


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("eip.test", True),
        ("gw.test:9", True),
        ("wild.test", True),
        ("api.wild.test", True),
        ("mine.test", True),
        ("a.b.ours.test", True),
        ("ours.test", False),
        ("xours.test", False),
        ("other.wild.test", False),
    ],
)
async def test_configured_names(open_api: OpenApi, host: str, own: bool) -> None:
    """Names that the configuration holds are ours."""
    api = await open_api(**NAMES)
    assert (await api.call("GET", "/sandboxes", headers={"Host": host}))[0] == (200 if own else 421)


async def test_any_name(open_api: OpenApi) -> None:
    """The operator may give this up."""
    api = await open_api(server={"allowed_hosts": ["*"]})
    assert (await api.call("GET", "/sandboxes", headers={"Host": "evil.example"}))[0] == 200


@pytest.mark.parametrize("host", STRANGERS)
async def test_with_a_key(open_api: OpenApi, host: str) -> None:
    """With a key the name does not matter, as with the released server: the key is what counts."""
    api = await open_api(server={"api_key": KEY})
    assert (await api.call("GET", "/sandboxes", headers={"Host": host, "OPEN-SANDBOX-API-KEY": KEY}))[0] == 200
    assert (await api.call("GET", "/sandboxes", headers={"Host": host}))[0] == 401


def test_no_names() -> None:
    """Without any name, addresses are still nobody else's."""
    hosts = OwnHosts([])
    assert "192.0.2.1:80" in hosts
    assert "" not in hosts
