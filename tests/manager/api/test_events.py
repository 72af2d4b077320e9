"""The live stream of changes: complete at the start, gapless afterwards, resumable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse

from manager.api.handlers.events import SLICE
from manager.services import journal
from tests.manager.api.conftest import Api, OpenApi
from tests.manager.fake_runtime import running

KINDS_OF_NOTHING = ["reset", "synced"]


@dataclass
class Event:
    """One event as it came."""

    kind: str
    data: dict[str, Any]
    id: str | None


async def read(response: ClientResponse) -> Event:
    """The next event, comments left out."""
    async with asyncio.timeout(5):
        fields: dict[str, str] = {}
        while True:
            line = (await response.content.readline()).decode().rstrip("\n")
            if not line and "event" in fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
            name, _, value = line.partition(": ")
            fields[name] = value


@asynccontextmanager
async def following(api: Api, last: str | None = None) -> AsyncIterator[ClientResponse]:
    """An open stream."""
    headers = {"Last-Event-ID": last} if last else {}
    async with api.client.get("/v1/sandboxes/events", headers=headers) as response:
        assert response.content_type == "text/event-stream"
        yield response


async def test_it_begins_with_everything(api: Api) -> None:
    """reset, each sandbox, synced."""
    made = await api.create()
    async with following(api) as stream:
        events = [await read(stream) for _ in range(3)]
    assert [event.kind for event in events] == ["reset", "sandbox", "synced"]
    assert events[1].data["id"] == made["id"]


async def test_many_at_once(api: Api) -> None:
    """However many there are, each comes once before `synced`; what changes meanwhile comes after it."""
    for number in range(2 * SLICE + 1):
        api.house.runtime.appear(running(f"box-{number}"))
    async with following(api) as stream:
        assert (await read(stream)).kind == "reset"
        api.house.runtime.vanish("box-7")
        shown = [await read(stream) for _ in range(2 * SLICE)]
        rest = [await read(stream) for _ in range(2)]
        while rest[-1].kind != "gone":
            rest.append(await read(stream))
    names = [event.data["id"] for event in shown + rest if event.kind == "sandbox"]
    assert len(set(names)) == len(names) >= 2 * SLICE
    assert [event.kind for event in rest[-2:]] == ["synced", "gone"]


async def test_catching_up_on_many(api: Api) -> None:
    """Who was away for long gets every change, in order."""
    last = f"{api.house.services.journal.epoch}.{api.house.services.journal.last}"
    for number in range(2 * SLICE + 1):
        api.house.runtime.appear(running(f"box-{number}"))
    async with following(api, last) as stream:
        names = [(await read(stream)).data["id"] for _ in range(2 * SLICE + 1)]
    assert names == [f"box-{number}" for number in range(2 * SLICE + 1)]


async def test_servers_do_not_share_ids(open_api: OpenApi) -> None:
    """A server that is started again within the same second does not take the ids of the old one for its own."""
    epochs = [(await open_api()).house.services.journal.epoch for _ in range(2)]
    assert epochs[0] != epochs[1]


async def test_changes_follow(api: Api) -> None:
    """Every state on the way, then gone with the reason."""
    async with following(api) as stream:
        assert [(await read(stream)).kind for _ in range(2)] == KINDS_OF_NOTHING
        made = await api.create()
        await api.call("DELETE", f"/sandboxes/{made['id']}")
        states: list[str] = []
        while (event := await read(stream)).kind == "sandbox":
            states.append(event.data["status"]["state"])
    assert (states[0], states[-1]) == ("Pending", "Stopping")
    assert (event.kind, event.data) == ("gone", {"id": made["id"], "reason": "deleted"})


async def test_resuming(api: Api) -> None:
    """A follower who comes back gets what it missed and nothing else."""
    async with following(api) as stream:
        await read(stream)
        last = (await read(stream)).id
    made = await api.create()
    async with following(api, last) as stream:
        event = await read(stream)
    assert (event.kind, event.data["id"], event.data["status"]["state"]) == ("sandbox", made["id"], "Pending")


async def test_ids_of_another_life(api: Api) -> None:
    """An id that is not known any more, or nonsense, begins anew."""
    for last in ("0.5", "x", f"{api.house.services.journal.epoch}.999999", f"{api.house.services.journal.epoch}.-1"):
        async with following(api, last) as stream:
            assert (await read(stream)).kind == "reset"


async def test_one_who_falls_behind_begins_anew(api: Api, monkeypatch: Any) -> None:
    """What is no longer kept is not silently left out."""
    assert journal.KEPT >= 1000
    number = api.house.services.journal.last
    book = api.house.services.journal
    book._entries = type(book._entries)(book._entries, maxlen=3)
    made = await api.create()
    for _ in range(3):
        await api.call("POST", f"/sandboxes/{made['id']}/pause")
        await api.call("POST", f"/sandboxes/{made['id']}/resume")
    async with following(api, f"{book.epoch}.{number}") as stream:
        assert (await read(stream)).kind == "reset"


async def test_streams_end_when_the_server_stops(api: Api) -> None:
    """Draining does not wait for followers."""
    async with following(api) as stream:
        assert [(await read(stream)).kind for _ in range(2)] == KINDS_OF_NOTHING
        api.house.services.drain()
        async with asyncio.timeout(5):
            assert await stream.content.read() == b""
