"""Two servers of one user on one Engine: what is whose is on the container, not in the home they share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import docker
import pytest

from tests.conftest import StartServer
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
PATIENCE = 30.0
SOON = timedelta(seconds=1)


@pytest.fixture
def two(start_server: StartServer, tmp_path: Path) -> tuple[ServerProcess, ServerProcess]:
    """Both in the same home."""
    home = {"HOME": str(tmp_path)}
    return start_server(environment=home), start_server(environment=home)


def create(server: ServerProcess) -> str:
    """The path of a new sandbox."""
    body = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": ["sleep", "600"], "timeout": 600, "resourceLimits": {}}
    status, made = server.call("POST", "/v1/sandboxes", body)
    assert status == 202, made
    return f"/v1/sandboxes/{made['id']}"


@pytest.mark.defect(12)
def test_each_ends_its_own(two: tuple[ServerProcess, ServerProcess], engine: docker.APIClient) -> None:
    """What is overdue waits for its own server, though another one runs, deletes, expires and restarts meanwhile."""
    mine, theirs = two
    overdue, patched = create(mine), create(mine)
    assert mine.call("PATCH", f"{patched}/metadata", {"who": "mine"})[0] == 200
    end = datetime.now(UTC) + SOON
    assert mine.call("POST", f"{overdue}/renew-expiration", {"expiresAt": end.isoformat()})[0] == 200
    mine.kill()
    other = create(theirs)
    theirs.call("POST", f"{other}/renew-expiration", {"expiresAt": (datetime.now(UTC) + SOON).isoformat()})
    theirs.stop()
    theirs.start()
    wait_until(lambda: theirs.call("GET", other)[0] == 410, PATIENCE, "the end of its own")
    wait_until(lambda: datetime.now(UTC) > end, PATIENCE, "the moment")
    assert [theirs.call("DELETE", path)[0] for path in (overdue, patched)] == [404, 404]
    for path in (overdue, patched):
        assert engine.inspect_container(f"sandbox-{path.rpartition('/')[2]}")["State"]["Running"]
    mine.start()
    wait_until(lambda: mine.call("GET", overdue)[0] == 410, PATIENCE, "the end of what is overdue")
    assert mine.call("GET", patched)[1]["metadata"] == {"who": "mine"}
