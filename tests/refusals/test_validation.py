"""Wrong requests: always 400 with the one code for it and the name of the field, and nothing is made of any."""

from __future__ import annotations

import re

import pytest

from tests.refusals.belongings import belongings, new_in
from tests.refusals.stage import House, Stage
from tests.refusals.validation import WRONG, Wrong

pytestmark = pytest.mark.timeout(60)
INVALID = "SANDBOX::INVALID_PARAMETER"


@pytest.fixture
def house(stage: Stage) -> House:
    """A server that would keep the record of a failed create."""
    return stage.house("direct")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: one.name)
def test_what_is_wrong_is_named(house: House, wrong: Wrong) -> None:
    """Whatever the place: body, path, query, or what two fields say together."""
    body = wrong.body if wrong.method else house.stage.wish(**wrong.body)
    answer = house.call(wrong.method or "POST", wrong.path, body)
    assert (answer.status, answer.body["code"]) == (400, INVALID), answer
    assert re.fullmatch(wrong.message, answer.body["message"]), answer
    assert set(answer.body) == {"code", "message"}


def test_nothing_is_made_of_any(house: House) -> None:
    """All of them once more, in one go: the Engine is told to make nothing, and no record is kept."""
    stage = house.stage
    before, told = belongings(stage), len(stage.engine.made)
    for wrong in WRONG:
        test_what_is_wrong_is_named(house, wrong)
    assert stage.engine.made[told:] == []
    assert new_in(belongings(stage), before, stage) == []
