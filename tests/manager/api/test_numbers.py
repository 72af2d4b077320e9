"""A boolean is no number, wherever a request has one: `"timeout": true` is not a timeout of one second."""

from __future__ import annotations

import typing
from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from manager.api.problems import describe
from manager.api.routes import ROUTES
from tests.manager.api.conftest import Api, plain
from tests.manager.api.test_nulls import models

NUMBERS = {int: "must be a whole number", float: "must be a number", datetime: "must be a time such as"}


def parts(annotation: Any) -> set[Any]:
    """The types in an annotation."""
    return {annotation}.union(*map(parts, typing.get_args(annotation)))


FIELDS = sorted(
    {
        (model.__name__, str(info.alias), words, model)
        for route in ROUTES
        for model in [found for kind in route.models for found in models(kind)]
        for info in model.model_fields.values()
        for kind, words in NUMBERS.items()
        if kind in parts(info.annotation)
    },
    key=lambda field: field[:2],
)


@pytest.mark.parametrize(("name", "alias", "words", "model"), FIELDS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_no_number(name: str, alias: str, words: str, model: type[BaseModel], value: bool) -> None:
    """Every field of every body and query that takes a number says that it does."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate({alias: value})
    assert f"{alias}: {words}" in describe(caught.value), name


async def test_the_answer(api: Api) -> None:
    """As the caller sees it."""
    status, answer = await api.call("POST", "/sandboxes", json=plain(timeout=True))
    assert (status, answer["message"]) == (400, "timeout: must be a whole number, got a boolean")
