"""What the verbs say where they cannot go on: the one thing to do about it, and nothing is started or installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOBODY = 65534
NO_ENGINE = "#!/bin/sh\nexit 1\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any account may read, with the scripts and a docker command that reaches no Engine."""
    made = Path(tempfile.mkdtemp())
    shutil.copytree(ROOT / "scripts", made / "scripts")
    command = made / "docker"
    command.write_text(NO_ENGINE)
    for path in (made, command):
        path.chmod(0o755)
    yield made
    shutil.rmtree(made)


def engine(place: Path, address: str) -> subprocess.CompletedProcess[str]:
    """`scripts/engine` as an account that is not root, with an Engine at this address."""
    environment = {"PATH": f"{place}:{os.environ['PATH']}", "DOCKER_HOST": address}
    account = NOBODY if os.geteuid() == 0 else None
    return subprocess.run(
        [place / "scripts/engine"], env=environment, user=account, capture_output=True, text=True, check=False
    )


def test_a_socket_of_others_is_told_with_the_group_to_join(place: Path) -> None:
    """An Engine that runs and may not be used is not taken for one that does not run."""
    path = place / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0)
        told = engine(place, f"unix://{path}")
    assert told.returncode == 1
    assert f"{path} may not be used by" in told.stderr
    assert f"sudo usermod -aG {path.group()} " in told.stderr


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "unix:///nowhere/docker.sock"])
def test_an_engine_elsewhere_that_does_not_answer_is_named(place: Path, address: str) -> None:
    """Nothing is started in place of an Engine that was asked for by its address."""
    told = engine(place, address)
    assert told.returncode == 1
    assert f"no Docker Engine answers at DOCKER_HOST={address}" in told.stderr
