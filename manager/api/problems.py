"""Validation problems in words: which field, which rule, and what was sent unless that may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from manager.domain.errors import Invalid
from manager.services.codes import INVALID_PARAMETER

M = TypeVar("M", bound=BaseModel)

_LONGEST = 60
_SECRET_PLACES = frozenset({"auth", "env", "password", "imageAuthPassword", "image_auth_password", "ossfs"})
_WORDS = {"dict": "an object", "list": "a list", "NoneType": "null", "bool": "a boolean"}
_VALUE_ERROR = "Value error, "


def validate(model: type[M], value: Any) -> M:
    """The value as a model; raises Invalid with every problem, the first one first."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Invalid(INVALID_PARAMETER, describe(error)) from None


def describe(error: ValidationError) -> str:
    """`<field>: <rule>, got <value>`, several joined by semicolons."""
    return "; ".join(_sentence(detail) for detail in error.errors(include_url=False)[:5])


def _sentence(detail: ErrorDetails) -> str:
    places = [str(part) for part in detail["loc"]]
    message = detail["msg"].removeprefix(_VALUE_ERROR)
    if detail["type"] == "value_error" and not places:
        return message
    if detail["type"] == "missing":
        return f"{'.'.join(places)}: is required"
    text = f"{'.'.join(places) or 'body'}: {message[0].lower()}{message[1:]}"
    shown = None if _SECRET_PLACES.intersection(places) else _shown(detail["input"])
    return text if shown is None else f"{text}, got {shown}"


def _shown(value: Any) -> str:
    word = _WORDS.get(type(value).__name__)
    if word is not None:
        return word
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def query_values(model: type[BaseModel], pairs: Mapping[str, list[str]]) -> dict[str, Any]:
    """The query as input for `model`: lists for fields that repeat, the one value for the rest.

    Raises Invalid when a field that does not repeat is given twice.
    """
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        given = pairs.get(key)
        if given is None:
            continue
        repeats = "list" in str(field.annotation)
        if len(given) > 1 and not repeats:
            raise Invalid(INVALID_PARAMETER, f"{key}: must be given once, got {len(given)} values")
        values[key] = given if repeats else given[0]
    return values
