"""`GET /v1/events`: what has happened, as a list and as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse

from manager.api.handlers import lifecycle_events
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.api.test_events import Event, read
from tests.manager.fake_runtime import running

KEYS = [
    {"name": "ann", "key": "key-of-ann", "scope": "own"},
    {"name": "bob", "key": "key-of-bob", "scope": "own"},
    {"name": "boss", "key": "key-of-boss"},
]
ANN, BOB, BOSS = ({"OPEN-SANDBOX-API-KEY": f"key-of-{name}"} for name in ("ann", "bob", "boss"))


@pytest.fixture
async def shared(open_api: OpenApi) -> Api:
    """A server of several."""
    return await open_api(server={"api_keys": KEYS})


@asynccontextmanager
async def following(api: Api, query: str = "", **headers: str) -> AsyncIterator[ClientResponse]:
    """An open stream."""
    asked = {"Accept": "text/event-stream", **headers}
    async with api.client.get(f"/v1/events{query}", headers=asked) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield response


async def listed(api: Api, query: str = "", headers: dict[str, str] | None = None) -> tuple[list[dict[str, Any]], int]:
    status, body = await api.call("GET", f"/v1/events{query}", headers=headers or {})
    assert status == 200
    return body["items"], body["next"]


async def test_the_list_goes_on_where_it_ended(api: Api) -> None:
    """`next` is the `since` of the next call; one sandbox's events are found alone."""
    made = [await api.create() for _ in range(2)]
    first, after = await listed(api, "?limit=3")
    rest, last = await listed(api, f"?since={after}")
    assert [item["id"] for item in first + rest] == [1, 2, 3, 4]
    assert await listed(api, f"?since={last}") == ([], last)
    ones, _ = await listed(api, f"?sandbox={made[1]['id']}")
    assert [(item["sandboxId"], item.get("from"), item["to"], item["cause"]) for item in ones] == [
        (made[1]["id"], None, "Pending", "api"),
        (made[1]["id"], "Pending", "Running", "api"),
    ]


async def test_who_asked_is_in_it(shared: Api) -> None:
    """The key's name and the request's id; keys of scope "own" see theirs only, by numbers of their own."""
    for who, number in ((BOB, "r-1"), (ANN, "r-2")):
        sent = {**who, "X-Request-ID": number}
        assert (await shared.call("POST", "/v1/sandboxes", json=plain(), headers=sent))[0] == 202
    everything, _ = await listed(shared, headers=BOSS)
    anns, last = await listed(shared, headers=ANN)
    assert [(item["actor"], item["requestId"]) for item in everything] == [("bob", "r-1")] * 2 + [("ann", "r-2")] * 2
    assert ([item["id"] for item in anns], last) == ([1, 2], 2)
    assert {item["actor"] for item in anns} == {"ann"}


async def test_a_stream_begins_with_what_exists(api: Api) -> None:
    """Then come changes, each with its id."""
    made = await api.create()
    async with following(api) as stream:
        begin = [await read(stream) for _ in range(2)]
        await api.call("DELETE", f"/v1/sandboxes/{made['id']}")
        changes = [await read(stream) for _ in range(2)]
    assert [(event.kind, event.data, event.id) for event in begin] == [
        ("snapshot", {"sandboxId": made["id"], "state": "Running"}, None),
        ("synced", {}, "2"),
    ]
    assert [(event.kind, event.data.get("to"), event.id) for event in changes] == [
        ("event", "Stopping", "3"),
        ("event", None, "4"),
    ]


async def test_who_comes_back_gets_what_was_missed(api: Api) -> None:
    """By `Last-Event-ID`, or by `since`; a number that is not from here begins anew."""
    await api.create()
    for query, headers in (("", {"Last-Event-ID": "1"}), ("?since=1", {})):
        async with following(api, query, **headers) as stream:
            event = await read(stream)
        assert (event.kind, event.id) == ("event", "2")
    async with following(api, **{"Last-Event-ID": "77"}) as stream:
        assert (await read(stream)).kind == "snapshot"
    status, answer = await api.call("GET", "/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "x"})
    assert (status, answer["code"]) == (400, "SANDBOX::INVALID_PARAMETER")


async def test_a_stream_shows_ones_own(shared: Api) -> None:
    """Neither sandboxes nor events of others, and no gaps in the numbers."""
    async with following(shared, **ANN) as stream:
        assert (await read(stream)).kind == "synced"
        for who in (BOB, ANN):
            assert (await shared.call("POST", "/v1/sandboxes", json=plain(), headers=who))[0] == 202
        events: list[Event] = [await read(stream) for _ in range(2)]
    assert [(event.id, event.data["actor"]) for event in events] == [("1", "ann"), ("2", "ann")]


async def test_who_falls_behind_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last event says why; then the stream ends."""
    monkeypatch.setattr(lifecycle_events, "BEHIND", 3)
    for number in range(3):
        await api.create()
        assert number < 3
    async with following(api, **{"Last-Event-ID": "1"}) as stream:
        told = await read(stream)
        rest = await asyncio.wait_for(stream.content.read(), 5)
    assert (told.kind, rest) == ("dropped", b"")
    assert "begin anew" in told.data["reason"]


async def test_a_removal_outside_says_so(api: Api) -> None:
    """It was not deleted by anybody here."""
    api.house.runtime.appear(running("box"))
    api.house.runtime.vanish("box")
    (event,), _ = await listed(api)
    assert (event["cause"], event.get("to")) == ("removed-outside", None)
    assert "removed outside" in event["message"]
