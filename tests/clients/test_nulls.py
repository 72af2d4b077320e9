"""What the released SDKs write into bodies, with optional fields unset and with null in them, is taken alike."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opensandbox.models.sandboxes import PVC, Volume

from tests.clients import older
from tests.clients.conftest import Clients
from tests.clients.modes import MODES, Mode
from tests.clients.programs_run import PROGRAMS, installed, run
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

RELEASES = ["current", *older.locked()]
NOT_HERE = 501
"""Templates are of Kubernetes: a request that is right hears that, a wrong one is 400."""

pytestmark = pytest.mark.timeout(300)


def remove_volume(name: str) -> None:
    """Removes a volume of the Engine."""
    subprocess.run(["docker", "volume", "rm", "--force", name], check=True, capture_output=True)


def forget_snapshots(server: ServerProcess) -> None:
    """Deletes every snapshot, each as soon as it is made."""

    def none_left() -> bool:
        listed = server.call("GET", "/v1/snapshots")[1]["items"]
        for snapshot in listed:
            server.call("DELETE", f"/v1/snapshots/{snapshot['id']}")
        return not listed

    wait_until(none_left, 60, "the deletion of the snapshots")


@pytest.fixture
def claim() -> Iterator[str]:
    """The name of a volume that is gone after the test."""
    name = f"nulls-{uuid.uuid4().hex}"
    yield name
    remove_volume(name)


@pytest.mark.parametrize("release", RELEASES)
def test_every_body_of_a_release(release: str, server_of: Callable[[Mode], ServerProcess], claim: str) -> None:
    """Create with a named volume and a network policy, renew, snapshot, policy, template, measurement."""
    python = Path(sys.executable) if release == "current" else installed(f"sdk-{release}") / "python"
    written = run(python, PROGRAMS / "write_bodies.py", SANDBOX_IMAGE).replace("@CLAIM@", claim)
    bodies: dict[str, list[Any]] = json.loads(written)
    server = server_of(MODES["direct"])
    try:
        for body in bodies.pop("create"):
            status, made = server.call("POST", "/v1/sandboxes", body)
            assert status == 202, (made, body)
        box = f"/v1/sandboxes/{made['id']}"
        calls = {
            "renew": ("POST", f"{box}/renew-expiration", 200),
            "snapshot": ("POST", f"{box}/snapshots", 202),
            "policy": ("PUT", f"{box}/networkpolicy", 200),
            "template": ("POST", "/v1/templates", NOT_HERE),
            "metrics": ("POST", "/v1/metrics/events", 204),
        }
        for request, sent in bodies.items():
            method, path, wanted = calls[request]
            if request == "policy" and "networkPolicy" not in body:
                continue
            for one in sent:
                status, answer = server.call(method, path, one)
                assert status == wanted, (request, answer, one)
                if request == "snapshot":
                    forget_snapshots(server)  # a sandbox is paused while one is taken
    finally:
        server.delete_all()


async def test_a_volume_as_programs_ask_for_it(claim: str, clients: Clients) -> None:
    """`PVC(claim_name=…)` and nothing else: the SDK fills in null for what was not said."""
    said = PVC(claimName=claim, storageClass=None, storage=None, accessModes=None)
    volume = Volume(name="data", pvc=said, mountPath="/data", subPath=None, host=None, ossfs=None)
    sandbox = await clients.create(volumes=[volume])
    assert (await sandbox.get_info()).status.state == "Running"
