"""Who may call the API, and what is refused whatever the key."""

from __future__ import annotations

import pytest

from gateway.access.api_keys import GUESSES
from manager.gateway_options import secrets
from manager.services.api_keys import ApiKey
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.fake_runtime import running
from tests.manager.harness import settings_of

KEY = "k3y-with-ümlaut"
LOOK = "look-but-do-not-touch"
SERVER = {"api_key": KEY}
OPEN = ["/health", "/ready", "/version", "/docs", "/redoc", "/openapi.json"]
CLOSED = [
    "/",
    "/sandboxes",
    "/v1/sandboxes",
    "/sandboxes/x/proxy/80",
    "/sandboxes/events",
    "/metrics",
    "/nothing",
    *("/v1" + path for path in OPEN),
    *(path + tail for path in OPEN for tail in ("/", "zzz", "/x", "//", "%2f", ";x")),
    *(path.upper() for path in OPEN),
]


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


async def test_a_refusal_says_how_to_ask(locked: Api) -> None:
    """401 names the scheme that works, missing key or wrong; nothing else does."""
    for headers, challenge in (
        ({}, "Bearer"),
        ({"OPEN-SANDBOX-API-KEY": "x"}, "Bearer"),
        ({"Authorization": f"Bearer {KEY}"}, None),
    ):
        async with locked.client.get("/sandboxes", headers=headers) as response:
            assert response.headers.get("WWW-Authenticate") == challenge


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
async def test_a_header_without_a_key_is_none(locked: Api, blank: str) -> None:
    """Clients that were given no key send the header empty: the bearer token counts then, and costs no guess."""
    headers = {"OPEN-SANDBOX-API-KEY": blank, "X-Gateway-Peer": "198.51.100.9"}
    for _ in range(GUESSES + 1):
        assert (await locked.call("GET", "/sandboxes", headers=headers))[1]["code"] == "MISSING_API_KEY"
    assert (await locked.call("GET", "/sandboxes", headers={**headers, "Authorization": f"Bearer {KEY}"}))[0] == 200


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer  ", "Basic " + KEY, KEY, f"Bearer{KEY}", f"Bearer {KEY} x"])
async def test_tokens_that_are_none(locked: Api, value: str) -> None:
    """Only a bearer token is a key, and all of it."""
    assert (await locked.call("GET", "/sandboxes", headers={"Authorization": value}))[0] == 401


async def test_the_keys_own_header_wins(locked: Api) -> None:
    """A wrong key there is not made good by a token."""
    headers = {"OPEN-SANDBOX-API-KEY": "wrong", "Authorization": f"Bearer {KEY}"}
    assert (await locked.call("GET", "/sandboxes", headers=headers))[0] == 401


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
        ({"Origin": "http://BOX.localhost:1", "Host": "box.localhost:1"}, 200),
        ({"Origin": "http://box.localhost:2", "Host": "box.localhost:1"}, 403),
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


async def test_callers_inside_a_sandbox_of_another_server(locked: Api) -> None:
    """The runtime knows their addresses; such a caller is refused as one's own sandboxes are."""
    locked.house.runtime.foreign.add("10.0.0.9")
    headers = {"OPEN-SANDBOX-API-KEY": KEY, "X-Gateway-Peer": "10.0.0.9"}
    status, body = await locked.call("GET", "/v1/sandboxes", headers=headers)
    assert (status, body["code"]) == (403, "SANDBOX_CALLER_FORBIDDEN")


async def test_callers_inside_a_sandbox_where_allowed(open_api: OpenApi) -> None:
    """The configuration may allow them."""
    api = await open_api(server={"allow_sandbox_callers": True})
    api.house.runtime.appear(running("a", own="10.0.0.9"))
    assert (await api.call("GET", "/sandboxes", headers={"X-Gateway-Peer": "10.0.0.9"}))[0] == 200


@pytest.fixture
async def keyed(open_api: OpenApi) -> Api:
    """The API with a key that may do everything and one that may only look."""
    api = await open_api(
        server=SERVER, ingress={"mode": "gateway", "gateway": {"address": "gw", "route": {"mode": "header"}}}
    )
    api.house.services.keys.replace([ApiKey("ops", KEY), ApiKey("dash", LOOK, read_only=True)])
    return api


async def test_a_key_that_may_only_look(keyed: Api) -> None:
    """GET and HEAD pass, changes are 403, and no credential of a sandbox is shown."""
    full, look = {"OPEN-SANDBOX-API-KEY": KEY}, {"OPEN-SANDBOX-API-KEY": LOOK}
    _, made = await keyed.call("POST", "/sandboxes", json=plain(secureAccess=True), headers=full)
    path = f"/sandboxes/{made['id']}"
    assert (await keyed.call("GET", path, headers=look))[0] == 200
    for method, tail in (("DELETE", ""), ("POST", "/pause"), ("PATCH", "/metadata")):
        status, body = await keyed.call(method, path + tail, headers=look)
        assert (status, body["code"]) == (403, "API_KEY_READ_ONLY")
    assert set((await keyed.call("GET", f"{path}/endpoints/80", headers=full))[1]["headers"]) == {
        "OpenSandbox-Ingress-To",
        "OpenSandbox-Secure-Access",
    }
    assert set((await keyed.call("GET", f"{path}/endpoints/80", headers=look))[1]["headers"]) == {
        "OpenSandbox-Ingress-To"
    }
    assert (await keyed.call("GET", f"{path}/endpoints/80?expires=1", headers=look))[0] == 403


async def test_keys_are_replaced_while_running(keyed: Api) -> None:
    """A reload makes the old key worthless and the new one good, at once."""
    keyed.house.services.keys.replace([ApiKey("new", "another-key")])
    assert (await keyed.call("GET", "/sandboxes", headers={"OPEN-SANDBOX-API-KEY": KEY}))[0] == 401
    assert (await keyed.call("GET", "/sandboxes", headers={"OPEN-SANDBOX-API-KEY": "another-key"}))[0] == 200


async def test_whoever_guards_the_keys_gets_them_all(keyed: Api) -> None:
    """The gateway keeps every one of them from sandboxes, and lets only those enter that may change things."""
    known = secrets(keyed.house.services.settings, keyed.house.services)
    assert known.own == frozenset({KEY.encode(), LOOK.encode()})
    assert known.entering == frozenset({KEY.encode()})


def from_address(address: str, key: str) -> dict[str, str]:
    return {"OPEN-SANDBOX-API-KEY": key, "X-Gateway-Peer": address}


async def test_guessing_is_slowed_down_per_address(locked: Api) -> None:
    """After twenty wrong keys an address hears 429 with Retry-After, whatever it sends; others do not notice."""
    for _ in range(GUESSES):
        assert (await locked.call("GET", "/sandboxes", headers=from_address("198.51.100.1", "guess")))[0] == 401
    async with locked.client.get("/sandboxes", headers=from_address("198.51.100.1", KEY)) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) >= 1
    assert (await locked.call("GET", "/sandboxes", headers=from_address("198.51.100.2", KEY)))[0] == 200


async def test_guessers_lock_nobody_out(locked: Api) -> None:
    """Who has used a key from an address goes on, whatever others behind the same address send."""
    assert (await locked.call("GET", "/sandboxes", headers=from_address("198.51.100.1", KEY)))[0] == 200
    for status in [401] * GUESSES + [429]:
        assert (await locked.call("GET", "/sandboxes", headers=from_address("198.51.100.1", "guess")))[0] == status
    assert (await locked.call("GET", "/sandboxes", headers=from_address("198.51.100.1", KEY)))[0] == 200


async def test_changes_are_audited(keyed: Api, caplog: pytest.LogCaptureFixture) -> None:
    """One line per change with the name of the key, the address, the outcome and the id; no line for reads, no key."""
    caplog.set_level("INFO", "manager.audit")
    headers = {"OPEN-SANDBOX-API-KEY": KEY, "X-Gateway-Peer": "198.51.100.7"}
    _, made = await keyed.call("POST", "/sandboxes", json=plain(), headers=headers)
    await keyed.call("GET", "/sandboxes", headers=headers)
    await keyed.call("DELETE", "/sandboxes/nobody", headers=headers)
    lines = [record.getMessage() for record in caplog.records if record.name == "manager.audit"]
    assert lines == [
        f"POST /sandboxes by key ops from 198.51.100.7: 202 {made['id']}",
        "DELETE /sandboxes/nobody by key ops from 198.51.100.7: 404 DOCKER::SANDBOX_NOT_FOUND",
    ]


async def test_a_path_forges_no_words_of_the_audit(keyed: Api, caplog: pytest.LogCaptureFixture) -> None:
    """What a caller writes in a path stays one word of the line."""
    caplog.set_level("INFO", "manager.audit")
    headers = {"OPEN-SANDBOX-API-KEY": KEY, "X-Gateway-Peer": "198.51.100.7"}
    path = "/sandboxes/a%20by%20key%20root%20from%2010.0.0.1:%20204%0D%0Ab"
    await keyed.call("DELETE", path, headers=headers)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "manager.audit"]
    assert line.split()[2:] == ["by", "key", "ops", "from", "198.51.100.7:", "404", "DOCKER::SANDBOX_NOT_FOUND"]


ON_HOST = plain(volumes=[{"name": "d", "mountPath": "/d", "host": {"path": "/srv/data"}}])
ALL: dict[str, list[str]] = {"allowed_host_paths": []}


@pytest.mark.parametrize("server", [{}, {"api_key": "your-secret-api-key"}])
async def test_strangers_mount_nothing_of_the_host(open_api: OpenApi, server: dict[str, str]) -> None:
    """Where anybody may create, an empty list of directories means none: the volume is refused by name."""
    api = await open_api(server=server, storage=ALL)
    key = {"OPEN-SANDBOX-API-KEY": server.get("api_key", "")}
    status, answer = await api.call("POST", "/sandboxes", json=ON_HOST, headers=key)

    assert (status, answer["code"]) == (400, "VOLUME::HOST_PATH_NOT_ALLOWED")
    assert answer["message"].startswith("volumes[d].host.path: '/srv/data' is not mounted by a server without")


async def test_a_key_of_ones_own_opens_the_host(open_api: OpenApi) -> None:
    """An empty list then means every directory, until a reload takes the key away."""
    api = await open_api(server={"api_key": "a key of its own"}, storage=ALL)
    key = {"OPEN-SANDBOX-API-KEY": "a key of its own"}
    assert (await api.call("POST", "/sandboxes", json=ON_HOST, headers=key))[0] == 202

    api.house.services.reload(settings_of(storage=ALL))
    assert (await api.call("POST", "/sandboxes", json=ON_HOST))[0] == 400


async def test_a_browser_is_led_on(locked: Api) -> None:
    """Whoever opens the bare address sees where to go; a program is asked for its key as everywhere."""
    browser = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
    async with locked.client.get("/", headers=browser) as answer:
        page = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
    for link in ("/docs", "/openapi.json", "/health"):
        assert f'href="{link}"' in page
        assert (await locked.call("GET", link))[0] == 200
    for method, path in (("POST", "/"), ("GET", "/sandboxes"), ("GET", "/v1")):
        assert (await locked.call(method, path, headers=browser))[0] == 401
