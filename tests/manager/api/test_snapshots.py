"""Snapshots: made in the background, restored from, deleted, and put right after a crash."""

from __future__ import annotations

from typing import Any

import pytest

from manager.domain.errors import Conflict, Failed, TimedOut
from manager.domain.snapshot import Snapshot, SnapshotState
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.fake_records import FakeRecords
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import START, until

NOBODY = "00000000-0000-4000-8000-000000000000"


async def snapshot(api: Api, sandbox_id: str, **body: Any) -> dict[str, Any]:
    """A snapshot as it is accepted."""
    status, made = await api.call("POST", f"/v1/sandboxes/{sandbox_id}/snapshots", json=body)
    assert status == 202, made
    return dict(made)


async def settled(api: Api, snapshot_id: str) -> dict[str, Any]:
    """The snapshot when it is no longer being made."""
    records = api.house.services.snapshots
    await until(lambda: records.get(snapshot_id).state is not SnapshotState.CREATING)
    return dict((await api.call("GET", f"/snapshots/{snapshot_id}"))[1])


async def test_make_and_restore(api: Api) -> None:
    """Creating at once, Ready later; a create from it runs its image and shows the snapshot instead."""
    source = await api.create()
    made = await snapshot(api, source["id"], name="first")
    assert (made["status"]["state"], made["status"]["reason"]) == ("Creating", "snapshot_accepted")
    ready = await settled(api, made["id"])
    assert (ready["status"]["state"], ready["name"], ready["sandboxId"]) == ("Ready", "first", source["id"])
    restored = await api.create(image=None, entrypoint=None, snapshotId=made["id"])
    assert restored["entrypoint"] == ["tail", "-f", "/dev/null"]
    assert api.house.runtime.specs[restored["id"]].image == f"snapshots:{made['id']}"
    shown = (await api.call("GET", f"/sandboxes/{restored['id']}"))[1]
    assert shown["snapshotId"] == made["id"]
    assert "image" not in shown


STRICT = {"extensions": {"snapshot.strict": "true"}}


async def test_a_snapshot_says_what_it_does_not_keep(api: Api) -> None:
    """In its message, from the first answer on, whatever else the message says."""
    api.house.runtime.mounted = ("/data", "/var/cache")
    told = "Not in it is what volumes and mounts hold, at: /data, /var/cache"
    made = await snapshot(api, (await api.create())["id"])
    assert made["status"]["message"] == f"Snapshot creation accepted. {told}"
    assert (await settled(api, made["id"]))["status"]["message"] == f"Snapshot image created successfully. {told}"
    api.house.runtime.fail("delete_snapshot", Failed("X", "not now"))
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[0] == 500
    assert (await api.call("GET", f"/snapshots/{made['id']}"))[1]["status"]["message"] == f"not now {told}"


@pytest.mark.parametrize(("of_sandbox", "of_snapshot"), [({}, STRICT), (STRICT, {}), (STRICT, {"name": "a"})])
async def test_a_strict_snapshot_is_refused_if_it_would_leave_anything_out(
    api: Api, of_sandbox: dict[str, Any], of_snapshot: dict[str, Any]
) -> None:
    """Asked for with the snapshot, or with the sandbox, which is all that SDKs can send; nothing is left of it."""
    source = await api.create(**of_sandbox)
    await snapshot(api, source["id"], **of_snapshot)
    api.house.runtime.mounted = ("/data",)
    path = f"/sandboxes/{source['id']}/snapshots"
    status, body = await api.call("POST", path, json=of_snapshot)
    assert (status, body["code"]) == (409, "SNAPSHOT::RUNTIME_PREFLIGHT_FAILED")
    assert "/data" in body["message"]
    assert (await api.call("GET", "/snapshots"))[1]["pagination"]["totalItems"] == 1
    await snapshot(api, source["id"], extensions={"snapshot.strict": "false"})


async def test_strict_is_yes_or_no(api: Api) -> None:
    """Anything else is refused by name, on a create too; null and other extensions mean nothing."""
    wrong = {"extensions": {"snapshot.strict": "maybe"}}
    source = await api.create()
    path = f"/sandboxes/{source['id']}/snapshots"
    for status, body in (
        await api.call("POST", path, json=wrong),
        await api.call("POST", "/sandboxes", json=plain(**wrong)),
    ):
        assert (status, "extensions.snapshot.strict" in body["message"]) == (400, True)
    await snapshot(api, source["id"], extensions=None)
    await snapshot(api, source["id"], extensions={"z": "1"})


async def test_the_body_may_be_left_out(api: Api) -> None:
    """No body is no name; a body that is no object is 400."""
    source = await api.create()
    assert (await api.call("POST", f"/sandboxes/{source['id']}/snapshots"))[0] == 202
    assert (await api.call("POST", f"/sandboxes/{source['id']}/snapshots", json={"name": ""}))[0] == 400
    assert (await api.call("POST", f"/sandboxes/{source['id']}/snapshots", json={"name": "a\nb"}))[0] == 400
    assert (await api.call("POST", f"/sandboxes/{source['id']}/snapshots", json=[]))[0] == 400


async def test_the_location(api: Api) -> None:
    """Where to ask for it."""
    source = await api.create()
    async with api.client.post(f"/sandboxes/{source['id']}/snapshots") as response:
        assert response.headers["Location"] == f"/v1/snapshots/{(await response.json())['id']}"


async def test_only_running_sandboxes(api: Api) -> None:
    """409 with the state for a paused one, 404 for nobody."""
    source = await api.create()
    await api.call("POST", f"/sandboxes/{source['id']}/pause")
    status, body = await api.call("POST", f"/sandboxes/{source['id']}/snapshots")
    assert (status, body["code"]) == (409, "SNAPSHOT::INVALID_SOURCE_STATE")
    assert "Paused" in body["message"]
    assert (await api.call("POST", f"/sandboxes/{NOBODY}/snapshots"))[1]["code"] == "DOCKER::SANDBOX_NOT_FOUND"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Failed("X", "no space"), "snapshot_runtime_failed"),
        (TimedOut("X", "too slow"), "snapshot_runtime_timeout"),
        (ValueError("a bug"), "snapshot_runtime_failed"),
    ],
)
async def test_a_snapshot_that_fails(api: Api, error: Exception, reason: str) -> None:
    """Failed with the reason; it cannot be restored from."""
    source = await api.create()
    api.house.runtime.fail("snapshot", error)
    failed = await settled(api, (await snapshot(api, source["id"]))["id"])
    assert (failed["status"]["state"], failed["status"]["reason"]) == ("Failed", reason)
    body = {"snapshotId": failed["id"], "resourceLimits": {}}
    assert (await api.call("POST", "/sandboxes", json=body))[1]["code"] == "SNAPSHOT::NOT_READY"


async def test_restoring_from_nothing(api: Api) -> None:
    """An unknown snapshot is 404."""
    status, body = await api.call("POST", "/sandboxes", json={"snapshotId": NOBODY, "resourceLimits": {}})
    assert (status, body["code"]) == (404, "SNAPSHOT::NOT_FOUND")


async def test_lists(api: Api) -> None:
    """By source, name and state in any case, newest first."""
    source, other = await api.create(), await api.create()
    first = await snapshot(api, source["id"], name="a")
    await settled(api, first["id"])
    api.house.clock.move(1)
    second = await snapshot(api, source["id"], name="b")
    await settled(api, second["id"])
    await settled(api, (await snapshot(api, other["id"]))["id"])
    items = (await api.call("GET", f"/snapshots?sandboxId={source['id']}&state=ready"))[1]["items"]
    assert [item["name"] for item in items] == ["b", "a"]
    assert (await api.call("GET", "/snapshots?name=a"))[1]["pagination"]["totalItems"] == 1
    assert (await api.call("GET", "/snapshots?state=Failed"))[1]["items"] == []


async def test_delete(api: Api) -> None:
    """Record and image go; nobody is 404."""
    source = await api.create()
    made = await settled(api, (await snapshot(api, source["id"]))["id"])
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[0] == 204
    assert api.house.runtime.images == set()
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[1]["code"] == "SNAPSHOT::NOT_FOUND"


async def test_what_is_being_made_cannot_be_deleted(api: Api) -> None:
    """409 until it is settled."""
    source = await api.create()
    gate = api.house.runtime.hold("snapshot")
    made = await snapshot(api, source["id"])
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[1]["code"] == "SNAPSHOT::INVALID_STATE"
    gate.set()
    await settled(api, made["id"])


async def test_a_snapshot_in_use_stays(api: Api) -> None:
    """409 from the runtime, and the snapshot is Ready as before."""
    source = await api.create()
    made = await settled(api, (await snapshot(api, source["id"]))["id"])
    api.house.runtime.fail("delete_snapshot", Conflict("SNAPSHOT::DELETE_CONFLICT", "in use"))
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[1]["code"] == "SNAPSHOT::DELETE_CONFLICT"
    assert (await api.call("GET", f"/snapshots/{made['id']}"))[1]["status"]["state"] == "Ready"
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[0] == 204


@pytest.mark.defect(6)
async def test_an_image_that_cannot_be_removed(open_api: OpenApi) -> None:
    """500 in the envelope with the runtime's code; the snapshot is Ready as before, says why, and can be restored."""
    api = await open_api()
    made = await settled(api, (await snapshot(api, (await api.create())["id"]))["id"])
    api.house.runtime.fail("delete_snapshot", Failed("DOCKER::SNAPSHOT_IMAGE_REMOVE_FAILED", "device busy"))
    status, body = await api.call("DELETE", f"/snapshots/{made['id']}")
    assert (status, body) == (500, {"code": "DOCKER::SNAPSHOT_IMAGE_REMOVE_FAILED", "message": "device busy"})
    api = await open_api(api.house.runtime)
    shown = (await api.call("GET", f"/snapshots/{made['id']}"))[1]["status"]
    assert (shown["state"], shown["reason"], shown["message"]) == ("Ready", "snapshot_delete_failed", "device busy")
    await api.create(image=None, entrypoint=None, snapshotId=made["id"])
    assert (await api.call("DELETE", f"/snapshots/{made['id']}"))[0] == 204


async def test_pausing_waits_for_nobody_during_a_snapshot(api: Api) -> None:
    """409 that names the snapshot."""
    source = await api.create()
    gate = api.house.runtime.hold("snapshot")
    made = await snapshot(api, source["id"])
    await until(lambda: api.house.runtime.calls["snapshot"] == 1)
    status, body = await api.call("POST", f"/sandboxes/{source['id']}/pause")
    assert status == 409
    assert "snapshot is under way" in body["message"]
    gate.set()
    await settled(api, made["id"])


@pytest.mark.parametrize(
    ("state", "there", "outcome"),
    [
        (SnapshotState.CREATING, True, "snapshot_recovery_ready"),
        (SnapshotState.CREATING, False, "snapshot_recovery_missing_image"),
        (SnapshotState.DELETING, True, None),
        (SnapshotState.DELETING, False, None),
        (SnapshotState.READY, True, "kept"),
    ],
)
async def test_after_a_crash(
    open_api: OpenApi, tmp_path: Any, state: SnapshotState, there: bool, outcome: str | None
) -> None:
    """One in the making is looked for, a deletion is finished, others stay as they are."""
    runtime = FakeRuntime()
    if there:
        runtime.images.add("snapshots:s1")
    kept = FakeRecords(tmp_path)
    await kept.snapshots.put(Snapshot("s1", "box", START, state, reason="kept", image="snapshots:s1"))
    await kept.close()
    api = await open_api(runtime)
    records = api.house.services.snapshots._known
    await until(lambda: (records["s1"].reason if "s1" in records else None) == outcome)
    assert ("snapshots:s1" in runtime.images) is (there and state is not SnapshotState.DELETING)
