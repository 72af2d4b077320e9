"""Codes that no request is answered with: where what they stand for is told. The first word of a test is its code."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from manager.api.errors import status_of
from manager.domain import errors
from manager.domain.ids import new_id
from manager.domain.sandbox import SandboxSpec
from manager.process import run
from manager.runtime.docker.buckets import Buckets
from manager.runtime.docker.create import Abandoned, Creation
from tests.refusals.stage import Stage
from tests.server_process import SANDBOX_IMAGE, free_port

pytestmark = pytest.mark.timeout(60)
SAID = "the Engine could not commit"


def test_a_commit_that_fails(stage: Stage) -> None:
    """SNAPSHOT::RUNTIME_CREATE_FAILED: the answer came before; the snapshot is Failed, and says why."""
    house = stage.house("gateway")
    box = house.shared_box()
    with stage.refusing("POST", "/commit", SAID):
        with house.snapshot(box) as snapshot:
            status = house.call("GET", f"/v1/snapshots/{snapshot}").body["status"]
        with pytest.raises(errors.Failed) as raised:
            stage.run(house.runtime.snapshot(box[-36:], new_id()))
    said = f"Failed to commit sandbox {box[-36:]}: {SAID}"
    assert (status["state"], status["reason"], status["message"]) == ("Failed", "snapshot_runtime_failed", said)
    assert (status_of(raised.value), raised.value.code) == (500, "SNAPSHOT::RUNTIME_CREATE_FAILED")
    assert raised.value.message == said


def test_a_stream_of_events_that_ends(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """DOCKER::EVENTS_ENDED: the log says so, the sandboxes are listed again, and all is well."""
    house = stage.house("direct")

    async def cut() -> None:
        house.runtime._watch._cut()

    stage.run(cut())
    ended = "out of step with the runtime, trying again until it answers: The event stream of the Docker Engine ended."
    stage.until(lambda: ended in caplog.messages, "word of it")
    stage.until(lambda: house.call("GET", "/health").body["status"] == "healthy", "new beginning")


def test_a_profile_that_cannot_be_read(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """DOCKER::INVALID_SECURITY_PROFILE: the server does not start, and says which key is wrong."""
    tables: dict[str, dict[str, Any]] = {
        "docker": {"seccomp_profile": "/there/is/none.json"},
        "server": {"host": "127.0.0.1", "port": free_port()},
    }
    settings = stage.settings("unstartable", tables, stage.folder / "unstartable" / "gateway.db")
    assert run(settings, Path("unused.toml")) == 1
    assert "docker.seccomp_profile: /there/is/none.json cannot be read: " in caplog.text


def test_a_create_that_nobody_waits_for(stage: Stage) -> None:
    """DOCKER::CREATE_ABANDONED: ends the create after the step it is at; whoever asked has gone."""
    spec = SandboxSpec(id=new_id(), created_at=datetime.now(UTC), expires_at=None, image=SANDBOX_IMAGE)
    creation = Creation(stage.house("direct").runtime._tools, spec, print)
    creation.abandon()
    with pytest.raises(Abandoned) as raised:
        stage.run(creation.run(print))
    assert raised.value.code == "DOCKER::CREATE_ABANDONED"
    assert raised.value.message == f"The create of sandbox {spec.id} was cancelled."


async def test_a_bucket_that_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """VOLUME::OSSFS_UNMOUNT_FAILED: a line in the log with the place; the next start tries again."""
    (tmp_path / "mine" / "box" / "data" / "still-here").mkdir(parents=True)
    await Buckets(str(tmp_path), "mine", local=True).release("box")
    assert caplog.messages == [f"VOLUME::OSSFS_UNMOUNT_FAILED: {tmp_path}/mine/box stays: Directory not empty"]
