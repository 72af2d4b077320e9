"""Tables of promises: each row has a test that keeps it, and no test is marked with a row that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest

from gateway.access.quotas import PREFIX as LIMIT_PREFIX
from manager.api.schemas.base import Wire
from manager.api.schemas.create import CreateSandboxRequest
from manager.domain import extensions
from manager.domain.sandbox import SandboxState
from manager.runtime.docker.isolation import ISOLATION_EXTENSION
from tests.tables import marked

ROOT = Path(__file__).parent.parent
DEFECTS = range(1, 16)
"""What is wrong with the released server, by the numbers under which docs/compatibility.md words it."""
EXTENSIONS = (
    extensions.RENEW_EXTEND,
    extensions.IDLE_PAUSE,
    extensions.KEEP_PREFIX,
    extensions.POOL_REF,
    extensions.ECHOED_PREFIX,
    LIMIT_PREFIX,
    ISOLATION_EXTENSION,
)
REASON = re.compile(
    r'"(CONTAINER_[A-Z_]+|SANDBOX_(?:SCHEDULED|STOPPING|PAUSING|RESUMING)|EGRESS_SIDECAR_[A-Z]+|PROVISIONING_ERROR'
    r'|snapshot_[a-z]+_?[a-z_]*)"'
)
DEFECT_ROW = re.compile(r"^\| (\d+) \| \S", re.MULTILINE)


@pytest.mark.parametrize("number", DEFECTS)
def test_a_defect_we_do_not_have(number: int) -> None:
    """Some test shows it."""
    assert marked("defect").get(number)


def test_only_known_defects() -> None:
    """A mark of another number, or a row of the page without one, is a slip."""
    rows = DEFECT_ROW.findall((ROOT / "docs" / "compatibility.md").read_text())
    assert [int(number) for number in rows] == list(DEFECTS)
    assert set(marked("defect")) == set(DEFECTS)


def models_in(kind: Any) -> Iterator[type[Wire]]:
    """The models that a type mentions."""
    if isinstance(kind, type) and issubclass(kind, Wire):
        yield kind
    elif get_origin(kind) in (tuple, list, dict, Union, UnionType, Annotated):
        for part in get_args(kind):
            yield from models_in(part)


def fields_of(model: type[Wire], above: str = "") -> Iterator[str]:
    """Every field that holds a value, as the wire spells it: `image.uri`, `volumes.pvc.claimName`."""
    for name, field in model.model_fields.items():
        path = above + (field.alias or name)
        inner = list(models_in(field.annotation))
        for one in inner:
            yield from fields_of(one, f"{path}.")
        if not inner:
            yield path


def reasons() -> set[str]:
    """Every reason that a status may carry, as the sources spell it."""
    files = [ROOT / "manager/runtime/docker/status.py", *(ROOT / "manager/services").glob("*.py")]
    found = set(REASON.findall("".join(file.read_text() for file in files)))
    return found | {f"SANDBOX_{state.value.upper()}" for state in (SandboxState.PAUSING, SandboxState.RESUMING)}


def test_reasons_of_a_status_are_documented() -> None:
    """A reason that the page does not explain is as good as none; one that is never given is a riddle."""
    page = (ROOT / "docs" / "api.md").read_text().partition("## States and reasons")[2].partition("\n## ")[0]
    assert set(REASON.findall(page.replace("`", '"'))) == reasons()


REQUEST_FIELDS = sorted(fields_of(CreateSandboxRequest))


@pytest.mark.parametrize("field", REQUEST_FIELDS)
def test_a_field_of_the_request(field: str) -> None:
    """Some test shows what it does to a container of a real Engine, or that it is refused by its name."""
    assert marked("request_field").get(field)


@pytest.mark.parametrize("key", EXTENSIONS)
def test_an_extension(key: str) -> None:
    """The same for each key that means something."""
    assert marked("request_field").get(f"extensions.{key}")


def test_only_known_fields() -> None:
    """A mark of another field is a slip."""
    assert set(marked("request_field")) == {*REQUEST_FIELDS, *(f"extensions.{key}" for key in EXTENSIONS)}
