"""What holds for every route: the envelope, request ids, bodies that are not what they should be, HEAD."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from importlib.metadata import version

import pytest
from aiohttp.test_utils import TestClient, TestServer

from manager.api.app import build_app
from manager.api.errors import STATUSES
from manager.api.examples import REQUESTS
from manager.api.routes import ROUTES
from manager.domain import errors
from manager.domain.sandbox import SandboxState
from tests.conformance.work import Turns
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.fake_runtime import FakeRuntime, running

JSON = {"Content-Type": "application/json"}
DEEP = b'{"env":' + b'{"a":' * 40 + b"1" + b"}" * 41
VERY_DEEP = b"[" * 4000
MOST_STEPS = 300_000
"""Instructions in one turn of the loop: some 6 ms."""


HEAVY = {
    "numbers": b'{"entrypoint":[' + b"1," * 500_000 + b"1]}",
    "objects": b'{"volumes":[' + b"{}," * 2000 + b"{}]}",
    "variables": b'{"env":{' + b",".join(b'"%d":1' % number for number in range(4900)) + b"}}",
    "strings": b'{"entrypoint":["' + b'","' * 300_000 + b'"]}',
    "a text with commas": b'{"env":{"A":"' + b"," * 500_000 + b'"}}',
    "a text that is not ASCII": b'{"env":{"A":"' + "é".encode() * 500_000 + b'"}}',
}


@pytest.mark.parametrize("name", HEAVY)
async def test_no_body_holds_the_loop(api: Api, name: str) -> None:
    """However many values a body has, a turn of the loop has its bound."""
    with Turns() as turns:
        status, _ = await api.call("POST", "/sandboxes", data=HEAVY[name], headers=JSON)
    assert status == 400
    assert 0 < turns.longest < MOST_STEPS


async def test_long_lists_in_headers(api: Api) -> None:
    """Nor do lists of thousands in a header."""
    await api.create()
    with Turns() as turns:
        await api.call("GET", "/sandboxes", headers={"If-None-Match": ",".join(['"a"'] * 2000)})
        await api.call("POST", "/sandboxes", json=plain(), headers={"Prefer": "," * 8000})
    assert 0 < turns.longest < MOST_STEPS


async def test_health(api: Api) -> None:
    """Healthy, or degraded with the reason, always 200; ready is 503 meanwhile."""
    assert await api.call("GET", "/health") == (200, {"status": "healthy"})
    assert await api.call("GET", "/ready") == (200, {"status": "ready"})
    api.house.runtime.reason = "the Engine does not answer"
    assert await api.call("GET", "/health") == (200, {"status": "degraded", "reason": "the Engine does not answer"})
    assert (await api.call("GET", "/ready"))[0] == 503


async def test_draining(api: Api) -> None:
    """A server that stops is alive but not ready."""
    api.house.services.drain()
    assert (await api.call("GET", "/ready"))[0] == 503
    assert (await api.call("GET", "/health"))[1] == {"status": "healthy"}


async def test_version(api: Api) -> None:
    """That of the distribution."""
    assert await api.call("GET", "/version") == (200, {"version": version("opensandbox-gateway")})


async def test_unknown_paths_and_methods(api: Api) -> None:
    """404 and 405 in the envelope; 405 says what is allowed."""
    status, body = await api.call("GET", "/nothing")
    assert (status, body["code"]) == (404, "GENERAL::NOT_FOUND")
    async with api.client.put("/sandboxes") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, POST")
        assert (await response.json())["code"] == "GENERAL::METHOD_NOT_ALLOWED"


async def test_request_ids(api: Api) -> None:
    """What the gateway set is on every answer, whatever its status."""
    for path in ("/health", "/nothing", "/sandboxes?page=0", "/sandboxes/x"):
        async with api.client.get(path, headers={"X-Request-ID": "abc"}) as response:
            assert response.headers["X-Request-ID"] == "abc"


async def test_head(api: Api) -> None:
    """Like GET, without the body."""
    for path, status in (("/health", 200), ("/v1/sandboxes", 200), ("/sandboxes/x", 404)):
        async with api.client.head(path) as response:
            assert (response.status, await response.read()) == (status, b"")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "a JSON body is required"),
        (b"  ", "a JSON body is required"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[]", "body: "),
        (b'"x"', "body: "),
        (b"null", "body: "),
        (b'{"a":NaN}', "NaN"),
        (b'{"timeout":1e999}', "timeout"),
        (b'{"image":{"uri":"a"},"image":{"uri":"b"}}', "'image' appears twice"),
        (b'{"env":{"A":"\\u0000"}}', "NUL"),
        (b'{"env":{"A":"\\ud800"}}', "surrogate"),
        (b'{"env":{"\\ud800":"x"}}', "surrogate"),
        (DEEP, "nested deeper"),
        (VERY_DEEP, "nested deeper"),
        (b'{"env":{"A":' + b"[],[" * 3000, "more than 5000 values"),
        (b'{"env":{"A":"%b"}}' % (b'\\",' * 6000), "Exactly one of image"),
        (b'{"timeout":' + b"9" * 5000 + b"}", "number"),
    ],
)
async def test_bodies_that_are_not_plain_json(api: Api, raw: bytes, words: str) -> None:
    """400 with the reason, whatever the bytes."""
    status, body = await api.call("POST", "/sandboxes", data=raw, headers=JSON)
    assert (status, body["code"]) == (400, "SANDBOX::INVALID_PARAMETER")
    assert words in body["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_other_content_types(api: Api, kind: str) -> None:
    """400 naming the header; a merge patch is JSON too."""
    status, body = await api.call("POST", "/sandboxes", data=b"{}", headers={"Content-Type": kind})
    assert status == 400
    assert "Content-Type" in body["message"]
    merge = {"Content-Type": "application/merge-patch+json; charset=utf-8"}
    made = await api.create()
    assert (await api.call("PATCH", f"/sandboxes/{made['id']}/metadata", data=b"{}", headers=merge))[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies(api: Api, chunked: bool) -> None:
    """10 MB are 413 in the envelope, announced or streamed."""
    data = _pieces() if chunked else io.BytesIO(b"x" * 10_000_000)
    status, body = await api.call("POST", "/sandboxes", data=data, headers=JSON)
    assert (status, body["code"]) == (413, "SERVER::BODY_TOO_LARGE")


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 100_000


async def test_a_body_is_refused_before_anything_is_created(api: Api) -> None:
    """Whatever was wrong, nothing exists afterwards."""
    await api.call("POST", "/sandboxes", json=plain(timeout=1))
    assert len(api.house.services.inventory) == 0


async def test_metrics_events(api: Api) -> None:
    """Clients report their creates under /v1 only."""
    event = {"eventType": "sandbox.create", "createDurationMs": 12, "success": True}
    assert (await api.call("POST", "/v1/metrics/events", json=event)) == (204, None)
    assert (await api.call("POST", "/metrics/events", json=event))[0] == 404
    assert (await api.call("POST", "/v1/metrics/events", json={**event, "createDurationMs": -1}))[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/pools", "KUBERNETES::POOL_NOT_SUPPORTED"),
        ("GET", "/pools/p", "KUBERNETES::POOL_NOT_SUPPORTED"),
        ("DELETE", "/pools/p", "KUBERNETES::POOL_NOT_SUPPORTED"),
        ("GET", "/v1/templates", "FSB::API_NOT_SUPPORTED"),
        ("DELETE", "/templates/t", "FSB::API_NOT_SUPPORTED"),
    ],
)
async def test_what_only_kubernetes_has(api: Api, method: str, path: str, code: str) -> None:
    """501 with the code clients know."""
    status, body = await api.call(method, path)
    assert (status, body["code"]) == (501, code)


@pytest.mark.parametrize(("method", "path"), [("POST", "/pools"), ("PUT", "/pools/{name}")])
async def test_requests_about_pools_are_read(api: Api, method: str, path: str) -> None:
    """What no runtime would take is 400; what one would take is 501 here."""
    good = REQUESTS[method, path]
    assert (await api.call(method, path.format(name="p"), json=good))[0] == 501
    bad = {**good, "capacitySpec": {**good["capacitySpec"], "poolMax": -1}}
    status, body = await api.call(method, path.format(name="p"), json=bad)
    assert (status, body["message"]) == (400, "capacitySpec.poolMax: must be at least 0, got -1")


def test_every_kind_of_failure_has_a_status() -> None:
    """The table is complete."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds == set(STATUSES)


async def test_every_route_answers_in_the_envelope(api: Api) -> None:
    """No route of the table answers a bare 404, a 500 or a page for a sandbox that does not exist."""
    api.house.runtime.appear(running("a"))
    for route in ROUTES:
        if route.media == "text/event-stream":
            continue
        path = route.paths[0].replace("{id}", "nobody").replace("{name}", "x").replace("{port}", "80")
        status, body = await api.call(route.method, path, data=b"{}", headers=JSON)
        assert status in {200, 204, 400, 404, 501, 503}, (route.path, status)
        assert status < 400 or set(body) == {"code", "message"}


async def test_etags(api: Api) -> None:
    """Who has the answer already is told so; a change changes the tag."""
    made = await api.create()
    path = f"/sandboxes/{made['id']}"
    async with api.client.get(path) as response:
        tag = response.headers["ETag"]
    async with api.client.get(path, headers={"If-None-Match": f'"x", {tag}'}) as response:
        assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", tag)
    await api.call("POST", f"{path}/pause")
    async with api.client.get(path, headers={"If-None-Match": tag}) as response:
        assert response.status == 200
        assert response.headers["ETag"] != tag
        assert response.headers["Cache-Control"] == "private, no-cache"
    assert "ETag" not in (await api.client.options(path)).headers


async def test_metrics(open_api: OpenApi) -> None:
    """What somebody renders is shown; where nobody does it is 404."""
    api = await open_api()
    assert (await api.call("GET", "/metrics"))[0] == 404
    app = build_app(api.house.services, api.house.services.settings, scrape=lambda: b"up 1\n")
    async with TestClient(TestServer(app)) as client, client.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await response.read() == b"up 1\n"


async def test_traffic(api: Api) -> None:
    """What the gateway has counted, in the words of the API; nobody is 404."""
    made = await api.create()
    path = f"/sandboxes/{made['id']}/traffic"
    quiet = {"requests": 0, "bytesIn": 0, "bytesOut": 0, "openConnections": 0}
    assert await api.call("GET", path) == (200, quiet)
    route = api.house.table.get(made["id"].encode())
    assert route is not None
    route.requests, route.bytes_in, route.bytes_out, route.last_active = 1, 2, 3, asyncio.get_running_loop().time()
    _, body = await api.call("GET", path)
    assert (body["requests"], body["bytesIn"], body["bytesOut"]) == (1, 2, 3)
    assert "lastActivityAt" in body
    assert (await api.call("GET", "/sandboxes/nobody/traffic"))[0] == 404


async def test_tallies(api: Api) -> None:
    """Plain counts of what was done."""
    made = await api.create()
    api.house.runtime.fail("create", errors.Failed("X", "no space"))
    await api.call("POST", "/sandboxes", json=plain())
    await api.call("DELETE", f"/sandboxes/{made['id']}")
    tallies = api.house.services.tallies
    assert (tallies.creates_ok, tallies.creates_failed, tallies.deletes) == (1, 1, 1)
    assert api.house.services.inventory.states()[SandboxState.FAILED] == 1
    assert api.house.services.watch.age() == 0.0


async def test_nothing_is_taken_for_a_page(api: Api) -> None:
    """Browsers are told on every answer, refusals and a sandbox's own output too, to take it for what it says it is."""
    made = await api.create()
    for path in ("/health", "/nothing", "/sandboxes/x", f"/sandboxes/{made['id']}/diagnostics/logs"):
        async with api.client.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_server_does_not_name_itself(api: Api) -> None:
    """No word on what runs here."""
    async with api.client.get("/health") as response:
        assert "Server" not in response.headers


@pytest.mark.parametrize(
    ("path", "location"),
    [("/v1/sandboxes/?page=2", "/v1/sandboxes?page=2"), ("/sandboxes/a/", "/sandboxes/a"), ("/health//", "/health")],
)
async def test_a_slash_too_many(api: Api, path: str, location: str) -> None:
    """307 to the path that is meant, method and query kept."""
    async with api.client.post(path, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, location)


@pytest.mark.parametrize("path", ["/nothing/", "/"])
async def test_slashes_that_lead_nowhere(api: Api, path: str) -> None:
    """404 as without it."""
    async with api.client.get(path, allow_redirects=False) as response:
        assert (response.status, "Location" in response.headers) == (404, False)


@pytest.mark.defect(10)
async def test_codes_carry_the_name_of_the_runtime(open_api: OpenApi) -> None:
    """On a cluster nothing is called by the name of an Engine."""
    runtime = FakeRuntime()
    runtime.name = "kubernetes"
    api = await open_api(runtime)
    made = await api.create()
    path = f"/sandboxes/{made['id']}"
    asked = [
        await api.call("GET", f"{path}/endpoints/0"),
        await api.call("POST", f"{path}/renew-expiration", json={"expiresAt": "2020-01-01T00:00:00Z"}),
        await api.call("GET", "/sandboxes/nobody"),
        await api.call("POST", f"{path}/resume"),
    ]
    codes = [body["code"] for _, body in asked]
    assert codes == [
        "KUBERNETES::INVALID_PORT",
        "KUBERNETES::INVALID_EXPIRATION",
        "KUBERNETES::SANDBOX_NOT_FOUND",
        "KUBERNETES::SANDBOX_NOT_PAUSED",
    ]
