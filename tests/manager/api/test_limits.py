"""Limits on number, and pages of other origins."""

from __future__ import annotations

import asyncio

import pytest

from manager.domain.errors import Failed
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.harness import settings_of

KEY = "the-key-of-everybody"
CI = {"name": "ci", "key": "the-key-of-ci", "max_sandboxes": 2}
FULL, NARROW = {"OPEN-SANDBOX-API-KEY": KEY}, {"OPEN-SANDBOX-API-KEY": "the-key-of-ci"}
PAGE = "https://console.example"
ASK = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a, x-b"}
ASK |= {"Access-Control-Request-Private-Network": "true"}


@pytest.fixture
async def shared(open_api: OpenApi) -> Api:
    """A server with a key for everybody and one for two sandboxes."""
    return await open_api(server={"api_key": KEY, "api_keys": [CI]})


async def test_a_limit_for_all(open_api: OpenApi) -> None:
    """429 with the limit and Retry-After, also when many come at once; a delete makes room."""
    api = await open_api(server={"max_sandboxes": 3})
    answers = await asyncio.gather(*(api.call("POST", "/sandboxes", json=plain()) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [202] * 3 + [429] * 5
    made = next(body for status, body in answers if status == 202)
    async with api.client.post("/sandboxes", json=plain()) as response:
        assert (await response.json())["code"] == "SERVER::CAPACITY_REACHED"
        assert "Retry-After" in response.headers
    await api.call("DELETE", f"/sandboxes/{made['id']}")
    await api.create()


async def test_a_limit_on_time(open_api: OpenApi) -> None:
    """400 with the limit for a longer life; the limit itself is fine."""
    api = await open_api(server={"max_sandbox_timeout_seconds": 600})
    status, body = await api.call("POST", "/sandboxes", json=plain(timeout=601))
    assert (status, body["code"]) == (400, "SANDBOX::INVALID_PARAMETER")
    assert "600" in body["message"]
    await api.create(timeout=600)


async def test_failed_creates_take_no_room(open_api: OpenApi) -> None:
    """Their records do not count."""
    api = await open_api(server={"max_sandboxes": 1})
    api.house.runtime.fail("create", Failed("X", "no space"))
    await api.call("POST", "/sandboxes", json=plain())
    await api.create()


async def test_a_limit_per_key(shared: Api) -> None:
    """One key's limit is nobody else's."""
    for _ in range(2):
        assert (await shared.call("POST", "/sandboxes", json=plain(), headers=NARROW))[0] == 202
    status, body = await shared.call("POST", "/sandboxes", json=plain(), headers=NARROW)
    assert (status, "'ci'" in body["message"]) == (429, True)
    assert (await shared.call("POST", "/sandboxes", json=plain(), headers=FULL))[0] == 202


async def test_a_limit_per_key_survives_a_restart(open_api: OpenApi) -> None:
    """Who made what is remembered, and forgotten when it is gone."""
    server = {"api_key": KEY, "api_keys": [CI]}
    first = await open_api(server=server)
    made = [(await first.call("POST", "/sandboxes", json=plain(), headers=NARROW))[1] for _ in range(2)]
    second = await open_api(first.house.runtime, server=server)
    assert (await second.call("POST", "/sandboxes", json=plain(), headers=NARROW))[0] == 429
    await second.call("DELETE", f"/sandboxes/{made[0]['id']}", headers=FULL)
    assert (await second.call("POST", "/sandboxes", json=plain(), headers=NARROW))[0] == 202


@pytest.mark.parametrize(
    "server", [{"max_sandboxes": 2}, {"api_key": KEY, "api_keys": [CI]}], ids=["in all", "per key"]
)
async def test_a_limit_counts_what_is_not_known_yet(open_api: OpenApi, server: dict[str, object]) -> None:
    """While events are away the runtime is asked, so nobody gets past a limit in the first moments of a server."""
    first = await open_api(server=server)
    for _ in range(2):
        await first.call("POST", "/sandboxes", json=plain(), headers=NARROW)
    runtime = first.house.runtime
    runtime.synced_at_start = False
    second = await open_api(runtime, server=server)
    assert (await second.call("POST", "/sandboxes", json=plain(), headers=NARROW))[0] == 429


async def test_a_refused_create_frees_its_key(open_api: OpenApi) -> None:
    """An Idempotency-Key that met a full server may be sent again."""
    api = await open_api(server={"max_sandboxes": 1})
    made = await api.create()
    again = {"Idempotency-Key": "k"}
    assert (await api.call("POST", "/sandboxes", json=plain(), headers=again))[0] == 429
    await api.call("DELETE", f"/sandboxes/{made['id']}")
    assert (await api.call("POST", "/sandboxes", json=plain(), headers=again))[0] == 202


async def test_reloading(shared: Api) -> None:
    """Keys, limits and origins of the new configuration hold at once."""
    server = {"api_key": "another-key", "max_sandboxes": 1, "cors_origins": [PAGE]}
    shared.house.services.reload(settings_of(server=server))
    other = {"OPEN-SANDBOX-API-KEY": "another-key"}
    assert (await shared.call("GET", "/sandboxes", headers=FULL))[0] == 401
    assert (await shared.call("POST", "/sandboxes", json=plain(), headers=other))[0] == 202
    assert (await shared.call("POST", "/sandboxes", json=plain(), headers=other))[0] == 429
    assert (await shared.call("OPTIONS", "/sandboxes", headers={**ASK, "Origin": "https://x.example"}))[0] == 403


async def test_preflight(shared: Api) -> None:
    """Answered before the key is asked for, with everything a browser wants to know."""
    async with shared.client.options("/v1/sandboxes", headers=ASK) as response:
        assert (response.status, await response.text()) == (200, "OK")
        heads = response.headers
    assert heads["Access-Control-Allow-Origin"] == PAGE
    assert heads["Access-Control-Allow-Headers"] == "x-a, x-b"
    assert "PATCH" in heads["Access-Control-Allow-Methods"]
    assert (heads["Access-Control-Max-Age"], heads["Vary"]) == ("600", "Origin")
    assert heads["Access-Control-Allow-Private-Network"] == "true"


async def test_every_answer_may_be_read(shared: Api) -> None:
    """Errors too, or pages would not know what went wrong."""
    for headers, status in ((FULL, 200), ({}, 401)):
        async with shared.client.get("/sandboxes", headers={**headers, "Origin": PAGE}) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
            assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]


async def test_options_that_are_no_preflight(shared: Api) -> None:
    """Go the way of every request."""
    assert (await shared.call("OPTIONS", "/sandboxes"))[0] == 401
    assert (await shared.call("OPTIONS", "/sandboxes", headers=FULL))[0] == 405


async def test_no_origin_may_read_an_open_server(api: Api) -> None:
    """Without a key nothing is shared with pages."""
    async with api.client.options("/sandboxes", headers=ASK) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers
