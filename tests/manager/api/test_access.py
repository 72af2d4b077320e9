"""Who may call the API, and what is refused whatever the key."""

from __future__ import annotations

import pytest

from tests.manager.api.conftest import Api, OpenApi
from tests.manager.fake_runtime import running

KEY = "k3y-with-ümlaut"
SERVER = {"api_key": KEY}
OPEN = ["/health", "/ready", "/version"]
CLOSED = ["/sandboxes", "/v1/sandboxes", "/healthzzz", "/health/", "/v1/health", "/nothing", "/sandboxes/x/proxy/80"]


@pytest.fixture
async def locked(open_api: OpenApi) -> Api:
    """The API with a key."""
    return await open_api(server=SERVER)


@pytest.mark.parametrize("path", OPEN)
async def test_open_paths(locked: Api, path: str) -> None:
    """Exactly these need no key."""
    assert (await locked.call("GET", path))[0] == 200


@pytest.mark.parametrize("path", CLOSED)
async def test_closed_paths(locked: Api, path: str) -> None:
    """Everything else is 401 before anything is said about whether it exists."""
    status, body = await locked.call("GET", path)
    assert (status, body["code"]) == (401, "MISSING_API_KEY")


@pytest.mark.parametrize("key", ["", "wrong", "k3y-with-umlaut", "x" * 5000])
async def test_wrong_keys(locked: Api, key: str) -> None:
    """401; an empty key is a missing one."""
    status, body = await locked.call("GET", "/sandboxes", headers={"OPEN-SANDBOX-API-KEY": key})
    assert (status, body["code"]) == (401, "INVALID_API_KEY" if key else "MISSING_API_KEY")


@pytest.mark.parametrize(
    "headers",
    [{"OPEN-SANDBOX-API-KEY": KEY}, {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY} "}],
)
async def test_right_keys(locked: Api, headers: dict[str, str]) -> None:
    """In the header of its own or as a bearer token."""
    assert (await locked.call("GET", "/sandboxes", headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[broken"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://HOST.example:1", "Host": "host.example:1"}, 200),
        ({"Origin": "http://host.example:2", "Host": "host.example:1"}, 403),
    ],
)
async def test_other_origins_without_a_key(api: Api, headers: dict[str, str], status: int) -> None:
    """A page of another site may not use an open server through somebody's browser."""
    assert (await api.call("GET", "/sandboxes", headers=headers))[0] == status


async def test_other_origins_with_a_key(locked: Api) -> None:
    """Whoever knows the key may call from any page."""
    headers = {"OPEN-SANDBOX-API-KEY": KEY, "Origin": "http://console.example"}
    assert (await locked.call("GET", "/sandboxes", headers=headers))[0] == 200


async def test_callers_inside_a_sandbox(locked: Api) -> None:
    """A live sandbox's own address is refused whatever the key; health is not."""
    locked.house.runtime.appear(running("a", own="10.0.0.9"))
    headers = {"OPEN-SANDBOX-API-KEY": KEY, "X-Gateway-Peer": "10.0.0.9"}
    status, body = await locked.call("POST", "/v1/sandboxes", headers=headers)
    assert (status, body["code"]) == (403, "SANDBOX_CALLER_FORBIDDEN")
    assert (await locked.call("GET", "/health", headers=headers))[0] == 200
    locked.house.runtime.vanish("a")
    assert (await locked.call("GET", "/sandboxes", headers=headers))[0] == 200


async def test_callers_inside_a_sandbox_where_allowed(open_api: OpenApi) -> None:
    """The configuration may allow them."""
    api = await open_api(server={"allow_sandbox_callers": True})
    api.house.runtime.appear(running("a", own="10.0.0.9"))
    assert (await api.call("GET", "/sandboxes", headers={"X-Gateway-Peer": "10.0.0.9"}))[0] == 200


async def test_an_open_server_warns(open_api: OpenApi, caplog: pytest.LogCaptureFixture) -> None:
    """Loudly, once."""
    await open_api()
    assert sum("server.api_key is empty" in record.getMessage() for record in caplog.records) == 1
