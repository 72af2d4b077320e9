"""Creates that answer at once, long polls, and creates that may be sent twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from manager.domain.errors import Failed, Invalid, Unavailable
from manager.domain.records import Failure, KeyRecord
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.fake_runtime import FakeRuntime, running
from tests.manager.harness import START, until

ASYNC = {"Prefer": "respond-async, wait=10"}
KEY = {"Idempotency-Key": "k-1"}


async def test_respond_async(api: Api) -> None:
    """202 Pending with Location before the runtime is done; then it runs."""
    gate = api.house.runtime.hold("create")
    async with api.client.post("/v1/sandboxes", json=plain(), headers=ASYNC) as response:
        made = await response.json()
        assert (response.status, made["status"]["state"]) == (202, "Pending")
        assert response.headers["Location"] == f"/v1/sandboxes/{made['id']}"
        assert response.headers["Preference-Applied"] == "respond-async"
    gate.set()
    status, shown = await api.call("GET", f"/sandboxes/{made['id']}?wait=running&timeout=5")
    assert (status, shown["status"]["state"]) == (200, "Running")


async def test_an_id_that_was_told_is_never_forgotten(open_api: OpenApi) -> None:
    """The server dies while it creates: the next one calls the id failed, not unknown."""
    first = await open_api()
    first.house.runtime.hold("create")
    _, made = await first.call("POST", "/sandboxes", json=plain(), headers=ASYNC)
    lost = await first.house.services.records.failures.all()
    assert [failure.sandbox.id for failure in lost] == [made["id"]]
    second = await open_api(FakeRuntime())
    await second.house.services.records.failures.put(lost[0])
    third = await open_api(FakeRuntime())
    status, shown = await third.call("GET", f"/sandboxes/{made['id']}")
    assert (status, shown["status"]["state"]) == (200, "Failed")
    assert "stopped" in shown["status"]["message"]


async def test_a_refusal_that_comes_late_is_shown(api: Api) -> None:
    """Who has the id already finds the reason under it."""
    api.house.runtime.fail("create", Invalid("VOLUME::PVC_NOT_FOUND", "no such volume"))
    _, made = await api.call("POST", "/sandboxes", json=plain(), headers=ASYNC)
    _, shown = await api.call("GET", f"/sandboxes/{made['id']}?wait=running&timeout=5")
    assert (shown["status"]["state"], shown["status"]["message"]) == ("Failed", "no such volume")


async def test_an_id_that_cannot_be_written_down_is_not_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, and nothing is created."""

    async def refuse(*_: object) -> None:
        raise Unavailable("SERVER::STORE_UNAVAILABLE", "its disk is full")

    monkeypatch.setattr(api.house.services.records.failures, "put", refuse)
    assert (await api.call("POST", "/sandboxes", json=plain(), headers=ASYNC))[0] == 503
    assert api.house.runtime.calls["create"] == 0


async def test_what_was_written_down_is_taken_back(open_api: OpenApi) -> None:
    """When it runs, nobody calls it failed; also when the server died between the start and the correction."""
    api = await open_api()
    _, made = await api.call("POST", "/sandboxes", json=plain(), headers=ASYNC)
    lost = Failure(running(made["id"], state="Failed"), START + timedelta(hours=1))
    await api.call("GET", f"/sandboxes/{made['id']}?wait=running&timeout=5")
    assert await api.house.services.records.failures.all() == []
    await api.house.services.records.failures.put(lost)
    again = await open_api(api.house.runtime)
    assert (await again.call("GET", f"/sandboxes/{made['id']}"))[1]["status"]["state"] == "Running"
    await settled(again)
    assert await again.house.services.records.failures.all() == []


async def settled(api: Api) -> None:
    """Returns when nothing is left to put right."""
    await until(lambda: not api.house.services.inventory.disproved_failures())


async def test_refusals_are_not_asynchronous(api: Api) -> None:
    """What is known to be wrong is 400 at once."""
    assert (await api.call("POST", "/sandboxes", json=plain(timeout=1), headers=ASYNC))[0] == 400


async def test_a_long_poll_ends_with_failure(api: Api) -> None:
    """Waiting for Running ends when it cannot come any more."""
    gate = api.house.runtime.hold("create")
    api.house.runtime.fail("create", Failed("X", "no space"))
    _, made = await api.call("POST", "/sandboxes", json=plain(), headers=ASYNC)
    poll = asyncio.create_task(api.call("GET", f"/sandboxes/{made['id']}?wait=running&timeout=5"))
    gate.set()
    status, shown = await poll
    assert (status, shown["status"]["state"], shown["status"]["message"]) == (200, "Failed", "no space")


async def test_a_long_poll_of_what_is_deleted(api: Api) -> None:
    """404 as soon as it is gone."""
    made = await api.create()
    poll = asyncio.create_task(api.call("GET", f"/sandboxes/{made['id']}?wait=paused&timeout=5"))
    await until(lambda: bool(api.house.services.waiting._waiters))
    await api.call("DELETE", f"/sandboxes/{made['id']}")
    assert (await poll)[0] == 404
    assert api.house.services.waiting._waiters == {}


async def test_a_long_poll_that_times_out(api: Api) -> None:
    """200 with the state there is."""
    made = await api.create()
    status, shown = await api.call("GET", f"/sandboxes/{made['id']}?wait=Paused&timeout=0")
    assert (status, shown["status"]["state"]) == (200, "Running")


@pytest.mark.parametrize(
    "query", ["wait=flying", "wait=running&timeout=61", "wait=paused&timeout=x", "wait=paused&timeout=nan"]
)
async def test_bad_polls(api: Api, query: str) -> None:
    """400 naming the field."""
    made = await api.create()
    assert (await api.call("GET", f"/sandboxes/{made['id']}?{query}"))[0] == 400


async def test_the_same_key_is_the_same_sandbox(api: Api) -> None:
    """One after the other and at once: one sandbox."""
    gate = api.house.runtime.hold("create")
    calls = [asyncio.create_task(api.call("POST", "/sandboxes", json=plain(), headers=KEY)) for _ in range(8)]
    await until(lambda: api.house.runtime.calls["create"] == 1)
    gate.set()
    answers = await asyncio.gather(*calls)
    answers.append(await api.call("POST", "/sandboxes", json=plain(), headers=KEY))
    assert {status for status, _ in answers} == {202}
    assert len({body["id"] for _, body in answers}) == 1
    assert len(api.house.runtime.sandboxes) == 1


async def test_a_key_survives_a_restart(open_api: OpenApi) -> None:
    """The new process answers with the sandbox the old one made."""
    first = await open_api()
    _, made = await first.call("POST", "/sandboxes", json=plain(), headers=KEY)
    second = await open_api(first.house.runtime)
    assert (await second.call("POST", "/sandboxes", json=plain(), headers=KEY))[1]["id"] == made["id"]


async def test_a_key_with_another_request(api: Api) -> None:
    """409: a key is not a way around validation."""
    await api.call("POST", "/sandboxes", json=plain(), headers=KEY)
    status, body = await api.call("POST", "/sandboxes", json=plain(timeout=700), headers=KEY)
    assert (status, body["code"]) == (409, "SANDBOX::IDEMPOTENCY_KEY_REUSED")


async def test_a_key_with_two_requests_at_once(api: Api) -> None:
    """The first has it, also while its sandbox is still made; the other is 409 at once."""
    gate = api.house.runtime.hold("create")
    first = asyncio.create_task(api.call("POST", "/sandboxes", json=plain(), headers=KEY))
    await until(lambda: api.house.runtime.calls["create"] == 1)
    status, body = await api.call("POST", "/sandboxes", json=plain(timeout=700), headers={**KEY, **ASYNC})
    assert (status, body["code"]) == (409, "SANDBOX::IDEMPOTENCY_KEY_REUSED")
    gate.set()
    assert (await first)[0] == 202
    assert len(api.house.runtime.sandboxes) == 1


async def test_a_key_belongs_to_its_caller(open_api: OpenApi) -> None:
    """Two API keys may choose the same words without hearing of each other's sandboxes."""
    server = {"api_keys": [{"name": name, "key": f"the-key-of-{name}"} for name in ("ci", "ops")]}
    api = await open_api(server=server)
    made = [
        await api.call(
            "POST", "/sandboxes", json=plain(), headers={**KEY, "OPEN-SANDBOX-API-KEY": f"the-key-of-{name}"}
        )
        for name in ("ci", "ops", "ci")
    ]
    assert [status for status, _ in made] == [202] * 3
    assert made[0][1]["id"] == made[2][1]["id"] != made[1][1]["id"]


async def test_a_repeated_asynchronous_create(api: Api) -> None:
    """202 with the same id and where it is, while it is Pending and when it runs."""
    gate = api.house.runtime.hold("create")
    answers = []
    for state in ("Pending", "Pending", "Running"):
        if state == "Running":
            gate.set()
            await until(lambda: not api.house.services.creation._work)
        async with api.client.post("/sandboxes", json=plain(), headers={**KEY, **ASYNC}) as response:
            made = await response.json()
            answers.append((response.status, made["id"], response.headers["Location"]))
            assert made["status"]["state"] == state
    assert len(set(answers)) == 1


async def test_a_key_whose_sandbox_is_gone(api: Api) -> None:
    """409 that asks for a new key, rather than a second sandbox."""
    _, made = await api.call("POST", "/sandboxes", json=plain(), headers=KEY)
    await api.call("DELETE", f"/sandboxes/{made['id']}")
    status, body = await api.call("POST", "/sandboxes", json=plain(), headers=KEY)
    assert (status, body["code"]) == (409, "SANDBOX::IDEMPOTENCY_KEY_SPENT")


async def test_a_key_whose_create_failed_is_free(api: Api) -> None:
    """The same request may be tried again."""
    api.house.runtime.fail("create", Failed("X", "no space"))
    assert (await api.call("POST", "/sandboxes", json=plain(), headers=KEY))[0] == 500
    assert (await api.call("POST", "/sandboxes", json=plain(), headers=KEY))[0] == 202


async def test_a_key_whose_server_died_is_free(api: Api) -> None:
    """The process died between the key and the sandbox: the repeated create makes it."""
    await api.call("POST", "/sandboxes", json=plain(), headers=KEY)
    store = api.house.services.records.idempotency
    (sandbox,) = api.house.runtime.sandboxes
    held = await store.claim(KeyRecord("", "k-1", "", "", START), START)
    assert held is not None
    await store.release("", "k-1", sandbox)
    await store.claim(KeyRecord("", "k-1", held.request, "never-made", held.until), START)
    status, made = await api.call("POST", "/sandboxes", json=plain(), headers=KEY)
    assert status == 202
    assert made["id"] not in {sandbox, "never-made"}


async def test_a_key_is_freed_by_its_own_create_only(api: Api) -> None:
    """A create that ends late does not free the key that another has taken meanwhile."""
    store = api.house.services.records.idempotency
    await store.claim(KeyRecord("", "k-1", "request", "second", START), START - timedelta(hours=1))
    await store.release("", "k-1", "first")
    await store.made("", "k-1", "first")
    held = await store.claim(KeyRecord("", "k-1", "request", "third", START), START - timedelta(hours=1))
    assert held is not None
    assert (held.sandbox_id, held.made) == ("second", False)


async def test_keys_end(api: Api) -> None:
    """After a day the key means nothing any more."""
    _, first = await api.call("POST", "/sandboxes", json=plain(timeout=None), headers=KEY)
    api.house.clock.move(24 * 3600)
    _, second = await api.call("POST", "/sandboxes", json=plain(timeout=None), headers=KEY)
    assert first["id"] != second["id"]


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "ü"])
async def test_keys_that_are_none(api: Api, key: Any) -> None:
    """400 naming the header."""
    status, body = await api.call("POST", "/sandboxes", json=plain(), headers={"Idempotency-Key": key})
    assert status == 400
    assert "Idempotency-Key" in body["message"]
