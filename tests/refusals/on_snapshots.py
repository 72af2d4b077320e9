"""Refusals about snapshots."""

from __future__ import annotations

from dataclasses import replace

from manager.domain.ids import new_id
from manager.domain.sandbox import Platform
from tests.refusals.catalogue import ID, refusal
from tests.refusals.on_sandboxes import SAID, paused
from tests.refusals.stage import Answer, Stage

COMMIT = "/commit"


def restored(snapshot_id: str, **more: object) -> dict[str, object]:
    """The change that makes a create a restore."""
    return {"snapshotId": snapshot_id, "image": None, "entrypoint": None, **more}


@refusal("SNAPSHOT::NOT_FOUND", 404, r"Snapshot nothing not found\.")
def a_snapshot_that_there_is_not(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/snapshots/nothing")


@refusal("SNAPSHOT::NOT_FOUND", 404, r"Snapshot nothing not found\.")
def a_restore_of_nothing(stage: Stage) -> Answer:
    return stage.house("gateway").create(**restored("nothing"))


@refusal("SNAPSHOT::NOT_FOUND", 404, rf"The image of snapshot {ID} is no longer there\.")
def a_restore_of_what_somebody_removed(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with house.snapshot(house.shared_box()) as snapshot:
        stage.real.remove_image(f"opensandbox-snapshots:{snapshot}")
        return house.create(**restored(snapshot))


@refusal("SNAPSHOT::INVALID_SOURCE_STATE", 409, rf"Snapshot can only .* Running sandbox\. Sandbox {ID} is Paused\.")
def a_snapshot_of_what_is_paused(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    with paused(house, path):
        return house.call("POST", f"{path}/snapshots")


@refusal("SNAPSHOT::UNSUPPORTED_RUNTIME", 409, r"Snapshots of sandboxes on gVisor are not possible: it keeps .*")
def a_snapshot_of_what_nobody_else_sees(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    # On real gVisor it is a part of tests/docker/test_secure_runtime.py, which has an Engine for that.
    with stage.altering("GET", "/containers/[0-9a-z-]+/json", lambda told: told["HostConfig"].update(Runtime="runsc")):
        return house.call("POST", f"{path}/snapshots")


@refusal("SNAPSHOT::RUNTIME_PREFLIGHT_FAILED", 409, r"The snapshot would not keep everything\. Not in it .*, at: /v")
def a_snapshot_that_would_leave_something_out(stage: Stage) -> Answer:
    house = stage.house("gateway")
    claim = {"claimName": f"{stage.instance}-left-out", "deleteOnSandboxTermination": True}
    with house.box(volumes=[{"name": "v", "pvc": claim, "mountPath": "/v"}]) as path:
        return house.call("POST", f"{path}/snapshots", {"extensions": {"snapshot.strict": "true"}})


def while_it_is_made(stage: Stage, method: str, path: str, change: dict[str, object] | None = None) -> Answer:
    """The answer to a request about a snapshot that is being made; `{}` stands for its id."""
    house = stage.house("gateway")
    with stage.holding("POST", COMMIT) as held:
        made = house.call("POST", f"{house.shared_box()}/snapshots").body["id"]
        held()
        body = None if change is None else stage.wish(**restored(made))
        answer = house.call(method, path.format(made), body)
    kept = f"/v1/snapshots/{made}"
    stage.until(lambda: house.call("GET", kept).body["status"]["state"] == "Ready", "snapshot")
    house.call("DELETE", kept)
    return answer


@refusal("SNAPSHOT::NOT_READY", 409, rf"Snapshot {ID} is Creating, not Ready\.")
def a_restore_of_what_is_being_made(stage: Stage) -> Answer:
    return while_it_is_made(stage, "POST", "/v1/sandboxes", {})


@refusal("SNAPSHOT::INVALID_STATE", 409, rf"Snapshot {ID} is Creating and cannot be deleted\.")
def a_deletion_of_what_is_being_made(stage: Stage) -> Answer:
    return while_it_is_made(stage, "DELETE", "/v1/snapshots/{}")


@refusal("SNAPSHOT::INVALID_RESTORE_CONFIG", 409, rf"platform: snapshot {ID} is of a sandbox for linux/\w+\. Leave .*")
def a_restore_on_another_platform(stage: Stage) -> Answer:
    house = stage.house("gateway")
    native: Platform = stage.run(house.runtime._tools.images._native())
    other = {"os": "linux", "arch": "arm64" if native.arch == "amd64" else "amd64"}
    return house.create(**restored(house.shared_snapshot(), platform=other))


@refusal("SNAPSHOT::INVALID_RESTORE_CONFIG", 409, rf"Snapshot {ID} has no image to restore from\.")
def a_restore_of_a_record_alone(stage: Stage) -> Answer:
    house = stage.house("gateway")
    snapshots = house.services.snapshots
    kept = snapshots.get(house.shared_snapshot())
    bare = replace(kept, id=new_id(), image="")
    snapshots.load([kept, bare])  # as a server finds it that starts with such a store
    answer = house.create(**restored(bare.id))
    snapshots.load([kept])
    return answer


@refusal("SNAPSHOT::DELETE_CONFLICT", 409, r"A sandbox still uses this snapshot; delete the sandbox first\.")
def a_deletion_of_what_is_in_use(stage: Stage) -> Answer:
    house = stage.house("gateway")
    snapshot = house.shared_snapshot()
    with house.box(**restored(snapshot)):
        return house.call("DELETE", f"/v1/snapshots/{snapshot}")


@refusal("DOCKER::SNAPSHOT_IMAGE_REMOVE_FAILED", 500, rf"The image of the snapshot could not be removed: {SAID}")
def a_deletion_that_the_engine_cannot_do(stage: Stage) -> Answer:
    house = stage.house("gateway")
    snapshot = house.shared_snapshot()
    with stage.refusing("DELETE", "/images/opensandbox-snapshots", SAID):
        return house.call("DELETE", f"/v1/snapshots/{snapshot}")
