"""Nothing that the official SDK offers is left out of the tests."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from opensandbox import Sandbox, SandboxManager, SandboxPoolAsync, SandboxPoolSync, SandboxSync
from opensandbox.services.command import Commands
from opensandbox.services.egress import CredentialVault
from opensandbox.services.filesystem import Filesystem
from opensandbox.services.isolated import IsolationService, IsolationSession
from opensandbox.sync import SandboxManagerSync

CALLED_BY_OTHERS = {
    "session": "an isolated session's create and delete in one `with`",
}
"""Helpers of the SDK around calls that are driven."""
PAIRS = [(Sandbox, SandboxSync), (SandboxManager, SandboxManagerSync), (SandboxPoolAsync, SandboxPoolSync)]
FACES = [face for face, _ in PAIRS] + [Commands, Filesystem, CredentialVault, IsolationService, IsolationSession]


def methods(face: type) -> set[str]:
    """What users call."""
    return {name for name, value in inspect.getmembers(face, callable) if not name.startswith("_")}


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_every_method_is_called(face: type) -> None:
    """A method of the SDK that no test calls is named, with the reason, or fails."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    called = set(re.findall(r"\.(\w+)\(", text))
    assert methods(face) - called - CALLED_BY_OTHERS.keys() == set()


@pytest.mark.parametrize(("face", "sync"), PAIRS, ids=lambda face: face.__name__)
def test_both_flavours_have_the_same_methods(face: type, sync: type) -> None:
    """So what is driven of one is driven of the other."""
    assert methods(face) == methods(sync)
