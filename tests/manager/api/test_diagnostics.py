"""Diagnostics: text for people, a descriptor for clients, a live stream of output."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientPayloadError

from manager.domain.errors import Failed, TooMany, Unavailable
from manager.services.diagnostics import render
from tests.manager.api.conftest import Api, plain
from tests.manager.harness import until

LINES = [b"2026-01-01T00:00:00Z one\n", "2026-01-01T00:00:01Z zwei ü\n".encode()]


async def test_logs(api: Api) -> None:
    """Text with a deprecation mark; the last lines only."""
    made = await api.create()
    api.house.runtime.log_lines = LINES
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/logs?tail=1") as response:
        assert response.headers["Deprecation"] == "true"
        assert response.content_type == "text/plain"
        assert await response.text() == "2026-01-01T00:00:01Z zwei ü\n"


async def test_no_logs(api: Api) -> None:
    """Silence has its own text."""
    made = await api.create()
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/logs?since=10m") as response:
        assert await response.text() == "(no logs)"


@pytest.mark.parametrize(("scope", "name"), [("container", "container"), (" ALL ", "all")])
async def test_the_descriptor(api: Api, scope: str, name: str) -> None:
    """What clients need, lengths in bytes; `all` says what is missing."""
    made = await api.create()
    api.house.runtime.log_lines = LINES
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/diagnostics/logs", params={"scope": scope})
    assert status == 200
    assert (body["kind"], body["scope"], body["delivery"], body["truncated"]) == ("logs", name, "inline", False)
    assert body["contentLength"] == len(b"".join(LINES))
    assert ("warnings" in body) is (name == "all")


@pytest.mark.parametrize("kind", ["logs", "events"])
async def test_scopes_that_are_none(api: Api, kind: str) -> None:
    """400 with the code clients know, before the sandbox is looked for."""
    for scope in ("", "x"):
        status, body = await api.call("GET", f"/sandboxes/nobody/diagnostics/{kind}?scope={scope}")
        assert (status, body["code"]) == (400, "DIAGNOSTICS_SCOPE_UNSUPPORTED")


async def test_events_tell_what_happened(api: Api) -> None:
    """States in order, newest last."""
    made = await api.create()
    await api.call("POST", f"/sandboxes/{made['id']}/pause")
    _, body = await api.call("GET", f"/sandboxes/{made['id']}/diagnostics/events?scope=runtime")
    lines = [line for line in body["content"].splitlines() if line.startswith("Event: ")]
    assert "Pending" in lines[0]
    assert "Paused" in lines[-1]


async def test_inspect_and_summary(api: Api) -> None:
    """The runtime's description, and everything on one page."""
    made = await api.create()
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/inspect") as response:
        assert "State:\n  Status: running" in await response.text()
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/summary?tail=5&event_limit=5") as response:
        text = await response.text()
    assert [line for line in text.splitlines() if line.startswith("==")] == [
        "== Inspect ==",
        "== Events ==",
        "== Logs ==",
    ]


async def test_a_failed_create_can_be_looked_at(api: Api) -> None:
    """Its reason is in the events, and there is no output."""
    api.house.runtime.fail("create", Failed("X", "no such image"))
    await api.call("POST", "/sandboxes", json=plain())
    (failed,) = api.house.services.inventory.newest_first()
    async with api.client.get(f"/sandboxes/{failed.id}/diagnostics/summary") as response:
        text = await response.text()
    assert "no such image" in text
    assert "(no logs)" in text


@pytest.mark.parametrize("query", ["tail=0", "tail=10001", "since=yesterday", "follow=maybe"])
async def test_bad_queries(api: Api, query: str) -> None:
    """400 naming the field."""
    made = await api.create()
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/diagnostics/logs?{query}")
    assert status == 400
    assert body["message"].startswith(query.partition("=")[0])


async def test_nobody(api: Api) -> None:
    """404 on each of them."""
    for kind in ("logs", "events", "inspect", "summary", "logs?follow=true"):
        assert (await api.call("GET", f"/sandboxes/nobody/diagnostics/{kind}"))[0] == 404


async def test_following(api: Api) -> None:
    """Lines come as they are written, and the answer ends when the output does."""
    made = await api.create()
    api.house.runtime.log_lines = LINES
    gate = api.house.runtime.hold("logs")
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/logs?follow=true") as response:
        async with asyncio.timeout(5):
            assert await response.content.readexactly(len(b"".join(LINES))) == b"".join(LINES)
        gate.set()
        assert await response.content.read() == b""


async def test_a_follower_that_leaves_a_silent_sandbox(api: Api) -> None:
    """Its stream is closed although nothing is written that could fail."""
    made = await api.create()
    api.house.runtime.hold("logs")
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/logs?follow=true") as response:
        assert response.status == 200
        assert api.house.runtime.open_logs == 1
        response.close()
    await until(lambda: api.house.runtime.open_logs == 0)


async def test_followers_end_when_the_server_does(api: Api) -> None:
    """In order, so that they are not cut after the whole grace."""
    made = await api.create()
    api.house.runtime.log_lines = LINES
    api.house.runtime.hold("logs")
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/logs?follow=true") as response:
        await response.content.readexactly(len(LINES[0]))
        api.house.services.drain()
        assert await response.content.read() == LINES[1]


async def test_output_that_breaks_off_is_no_end(api: Api) -> None:
    """The answer is cut, so that nobody takes it for the whole."""
    made = await api.create()
    api.house.runtime.log_lines = LINES
    api.house.runtime.fail("logs", Unavailable("DOCKER::ENGINE_UNAVAILABLE", "gone"))
    async with api.client.get(f"/sandboxes/{made['id']}/diagnostics/logs?follow=true") as response:
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_too_many_followers(api: Api) -> None:
    """What keeps the output from being opened has a status of its own."""
    made = await api.create()
    api.house.runtime.fail("open_logs", TooMany("DOCKER::TOO_MANY_STREAMS", "64 streams are open"))
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/diagnostics/logs?follow=true")
    assert (status, body["code"]) == (429, "DOCKER::TOO_MANY_STREAMS")


def test_rendering() -> None:
    """Nested values become indented lines; what is empty is left out."""
    value = {"A": 1, "B": {"C": "x", "D": None, "E": []}, "F": [{"G": 2}, "h"]}
    assert list(render(value)) == ["A: 1", "B:", "  C: x", "F:", "  - G: 2", "  - h"]
