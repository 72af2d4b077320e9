"""Every refusal of the catalogue: its status, its code and its words, and that nothing is left of it anywhere."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.docker.conftest import BUILD
from tests.refusals import on_creates, on_sandboxes, on_server, on_snapshots, on_volumes
from tests.refusals.belongings import Belongings, belongings, new_in
from tests.refusals.catalogue import CASES, Refusal
from tests.refusals.stage import Stage

pytestmark = pytest.mark.timeout(120)
CATALOGUE = (on_creates, on_sandboxes, on_server, on_snapshots, on_volumes)
SETTLED_SECONDS = 20.0


@pytest.fixture(scope="module")
def before(stage: Stage) -> Belongings:
    """What there was before the first of them, on an Engine that has the image of the sidecar and a server's own."""
    subprocess.run([BUILD, "egress"], capture_output=True, check=True)
    stage.house("gateway")
    return belongings(stage)


@pytest.fixture
def noted(stage: Stage, before: Belongings, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The stage, which writes down during which case something is made."""
    stage.engine.case = request.node.name
    yield stage
    stage.engine.case = ""


@pytest.mark.parametrize("refused", CASES, ids=lambda one: f"{one.code}-{one.name}")
def test_each_is_answered_as_the_catalogue_says(noted: Stage, refused: Refusal) -> None:
    """The status and the code for programs, the words for people, and nothing else."""
    answer = refused.case(noted)
    assert (answer.status, answer.body["code"]) == (refused.status, refused.code), answer
    assert re.fullmatch(refused.message, answer.body["message"]), answer
    assert set(answer.body) == {"code", "message"}


def test_nothing_is_left_of_any(stage: Stage, before: Belongings) -> None:
    """No container, volume, network or image on the Engine, no directory, no row, no held port, no id."""
    for house in stage.houses.values():
        house.give_back()
    with contextlib.suppress(TimeoutError):
        stage.until(lambda: not new_in(belongings(stage), before, stage), "end of what the cases made")
    assert new_in(belongings(stage), before, stage) == []
