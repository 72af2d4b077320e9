"""Two keys of scope own: neither sees, changes or can tell of what the other made, by any route there is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from manager.api.examples import REQUESTS
from manager.api.ownership import About
from manager.api.routes import ROUTES, Route
from manager.domain.ownership import volume_of
from manager.domain.request import CreateRequest
from manager.domain.sandbox import NamedVolume
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.fake_runtime import running
from tests.manager.harness import settings_of, until

NOBODY = "11111111-1111-4111-8111-111111111111"
"""An id that never was."""


def key_of(name: str) -> dict[str, str]:
    return {"OPEN-SANDBOX-API-KEY": f"the-key-of-{name}"}


def keys(**scopes: str) -> dict[str, Any]:
    named = [{"name": name, "key": f"the-key-of-{name}", "scope": scope} for name, scope in scopes.items()]
    return {"api_key": "the-key-of-boss", "api_keys": named}


SERVER = keys(ann="own", bob="own", eve="admin")
ANN, BOB, BOSS = key_of("ann"), key_of("bob"), key_of("boss")


@pytest.fixture
async def shared(open_api: OpenApi) -> Api:
    """A server with two keys that see their own, and two that see everything."""
    return await open_api(server=SERVER)


async def made_by(api: Api, who: dict[str, str], **changes: Any) -> str:
    status, body = await api.call("POST", "/sandboxes", json=plain(**changes), headers=who)
    assert status == 202, body
    return str(body["id"])


async def snapshot_of(api: Api, box: str, who: dict[str, str]) -> str:
    status, body = await api.call("POST", f"/sandboxes/{box}/snapshots", json={"name": "n"}, headers=who)
    assert status == 202, body
    await until(lambda: api.house.services.snapshots.get(body["id"]).state.value == "Ready")
    return str(body["id"])


async def ask(
    api: Api, route: Route, id: str, who: dict[str, str], *, port: str = "80"
) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of one call, in which an id is nobody's."""
    path = route.paths[-1].replace("{id}", id).replace("{port}", port).replace("{name}", "p")
    options = {"json": body} if (body := REQUESTS.get((route.method, route.path))) is not None else {}
    async with api.client.request(route.method, path, headers=who, **options) as answer:
        text = (await answer.text()).replace(id, "ID") if route.media != "text/event-stream" else ""
        heads = {name: value for name, value in answer.headers.items() if name not in ("Date", "X-Request-ID")}
        return answer.status, text, heads


def test_every_route_is_decided() -> None:
    """A route that names something of somebody's says so, and one that does not cannot be written without saying so."""
    for route in ROUTES:
        named = "{id}" in route.path and "/templates" not in route.path
        assert named is (route.about in (About.SANDBOX, About.SNAPSHOT)), route.path
        assert not (route.open and route.about is not About.NOBODY), route.path
    with pytest.raises(TypeError, match="about"):
        Route("GET", "/new", ROUTES[0].handler, 200)  # type: ignore[call-arg]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_what_another_made_never_was(shared: Api, route: Route) -> None:
    """Each route answers alike about another's and about nothing's id, whatever else is wrong; and never in a list."""
    box = await made_by(shared, ANN)
    mine = await snapshot_of(shared, box, ANN) if route.about is About.SNAPSHOT else box
    if route.about in (About.SANDBOX, About.SNAPSHOT):
        for port in ("80", "0", "x"):
            theirs = await ask(shared, route, mine, BOB, port=port)
            assert theirs == await ask(shared, route, NOBODY, BOB, port=port)
            assert theirs[0] == 404
        assert (await ask(shared, route, mine, ANN))[0] != 404
        assert shared.house.runtime.calls["delete"] == ((route.method, route.path) == ("DELETE", "/sandboxes/{id}"))
    elif route.about is About.SERVER:
        status, text, _ = await ask(shared, route, box, BOB)
        assert (status, json.loads(text)["code"]) == (403, "API_KEY_SCOPE")
    elif route.media != "text/event-stream":
        _, text, _ = await ask(shared, route, NOBODY, BOB)
        assert box not in text


async def test_lists_count_what_is_ones_own(shared: Api) -> None:
    """Items and totals, of sandboxes and snapshots; an admin sees all of them."""
    boxes = {who["OPEN-SANDBOX-API-KEY"]: [await made_by(shared, who) for _ in range(2)] for who in (ANN, BOB, BOSS)}
    await snapshot_of(shared, boxes["the-key-of-ann"][0], ANN)
    for who, count, kept in ((ANN, 2, 1), (BOB, 2, 0), (BOSS, 6, 1), (key_of("eve"), 6, 1)):
        _, page = await shared.call("GET", "/sandboxes", headers=who)
        assert page["pagination"]["totalItems"] == len(page["items"]) == count
        _, page = await shared.call("GET", "/snapshots", headers=who)
        assert page["pagination"]["totalItems"] == len(page["items"]) == kept


async def test_events_tell_of_ones_own(shared: Api) -> None:
    """What others make and delete leaves no trace in the stream, nor in the numbers of its events."""
    first = await made_by(shared, ANN)
    async with shared.client.get("/sandboxes/events", headers=ANN) as stream:
        for _ in range(3):
            await shared.call("DELETE", f"/sandboxes/{await made_by(shared, BOB)}", headers=BOB)
        await shared.call("DELETE", f"/sandboxes/{first}", headers=ANN)
        told = b""
        while b"event: gone" not in told:
            told += await stream.content.readany()
    assert told.count(first.encode()) == told.count(b'"id"')
    numbers = [int(line.rpartition(b".")[2]) for line in told.splitlines() if line.startswith(b"id: ")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    last = next(line[4:].decode() for line in reversed(told.splitlines()) if line.startswith(b"id: "))
    await made_by(shared, BOB)
    second = await made_by(shared, ANN)
    async with shared.client.get("/sandboxes/events", headers={**ANN, "Last-Event-ID": last}) as stream:
        more = await stream.content.readany()
    assert b"reset" not in more
    assert second.encode() in more


async def test_streams_end_with_their_key(shared: Api) -> None:
    """A key that is taken away, or sees less from now on, keeps nothing open."""
    async with shared.client.get("/sandboxes/events", headers=key_of("eve")) as stream:
        await stream.content.readany()
        shared.house.services.reload(settings_of(server=keys(ann="own", eve="own")))
        await made_by(shared, ANN)
        async with asyncio.timeout(5):
            await stream.content.read()


async def test_a_restore_of_anothers_snapshot(shared: Api) -> None:
    """404 in the words for one that never was."""
    kept = await snapshot_of(shared, await made_by(shared, ANN), ANN)
    answers = []
    for snapshot in (kept, NOBODY):
        body = plain(image=None, entrypoint=None, snapshotId=snapshot)
        status, answer = await shared.call("POST", "/sandboxes", json=body, headers=BOB)
        answers.append((status, json.dumps(answer).replace(snapshot, "ID")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    await made_by(shared, ANN, image=None, entrypoint=None, snapshotId=kept)


async def test_named_volumes_are_ones_own(shared: Api) -> None:
    """The same name is another volume to another key, and none of an admin's; the host's directories are nobody's."""
    volumes = [{"name": "d", "mountPath": "/d", "pvc": {"claimName": "data"}}]
    claims = set()
    for who in (ANN, BOB, BOSS):
        (mount,) = shared.house.runtime.specs[await made_by(shared, who, volumes=volumes)].volumes
        assert isinstance(mount.source, NamedVolume)
        claims.add(mount.source.claim_name)
    assert claims == {volume_of("ann", "data"), volume_of("bob", "data"), "data"}
    on_host = plain(volumes=[{"name": "d", "mountPath": "/d", "host": {"path": "/srv/data"}}])
    status, answer = await shared.call("POST", "/sandboxes", json=on_host, headers=ANN)
    assert (status, answer["code"]) == (403, "API_KEY_SCOPE")


def test_no_two_keys_have_a_volume_in_common() -> None:
    """Whatever the names of keys and claims."""
    names, claims = ("a", "a_", "a-b", "a_b", "a.b"), ("b", "b-b", "b.b")
    made = [volume_of(name, claim) for name in names for claim in claims]
    assert len(set(made)) == len(made)


async def test_idempotency_keys_are_ones_own(shared: Api) -> None:
    """The same word with another body is no conflict between two keys."""
    again = {"Idempotency-Key": "k"}
    first = await shared.call("POST", "/sandboxes", json=plain(), headers={**ANN, **again})
    other = await shared.call("POST", "/sandboxes", json=plain(timeout=700), headers={**BOB, **again})
    assert (first[0], other[0]) == (202, 202)
    assert first[1]["id"] != other[1]["id"]


async def test_a_full_server_tells_no_numbers(open_api: OpenApi) -> None:
    """To a key that sees its own: how many there are is not its own."""
    api = await open_api(server={**SERVER, "max_sandboxes": 17})
    for _ in range(17):
        await made_by(api, BOSS)
    status, answer = await api.call("POST", "/sandboxes", json=plain(), headers=ANN)
    assert (status, "17" in answer["message"]) == (429, False)


async def test_failed_and_unfinished_creates_are_ones_own(shared: Api) -> None:
    """Their records and their progress, also while the runtime is away."""
    gate = shared.house.runtime.hold("create")
    creating = await shared.call("POST", "/sandboxes", json=plain(), headers={**ANN, "Prefer": "respond-async"})
    path = f"/sandboxes/{creating[1]['id']}"
    assert (await shared.call("GET", path, headers=ANN))[0] == 200
    shared.house.runtime.lose()
    for who, status in ((ANN, 200), (BOB, 404)):
        assert (await shared.call("GET", path, headers=who))[0] == status
    gate.set()


async def test_owners_survive_a_restart(open_api: OpenApi) -> None:
    """And a secret that is changed under the same name; a renamed key leaves what it made to those who see all."""
    first = await open_api(server=SERVER)
    box = await made_by(first, ANN)
    kept = await snapshot_of(first, box, ANN)
    renamed = {"name": "new", "key": "the-key-of-new", "scope": "own"}
    changed = {"name": "ann", "key": "another-key", "scope": "own"}
    second = await open_api(first.house.runtime, server={"api_key": "the-key-of-boss", "api_keys": [changed, renamed]})
    other = {"OPEN-SANDBOX-API-KEY": "another-key"}
    for path in (f"/sandboxes/{box}", f"/snapshots/{kept}"):
        statuses = [(await second.call("GET", path, headers=who))[0] for who in (other, BOSS, key_of("new"))]
        assert statuses == [200, 200, 404]


async def test_what_nobody_made_is_no_keys_own(shared: Api) -> None:
    """Sandboxes that were taken over from an earlier server, or made when there were no keys."""
    shared.house.runtime.appear(running("found"))
    assert [(await shared.call("GET", "/sandboxes/found", headers=who))[0] for who in (ANN, BOSS)] == [404, 200]


def test_a_request_says_nothing_of_its_owner() -> None:
    """Who a sandbox belongs to comes from the key alone."""
    assert "owner" not in {name.lower() for name in CreateRequest.__dataclass_fields__}
