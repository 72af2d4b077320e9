"""Validation errors as text: which field, which rule, and the value unless that may be a secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from manager.api.schemas.patterns import WORDS as PATTERNS
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Invalid

M = TypeVar("M", bound=BaseModel)

_LONGEST = 60
_MOST_PROBLEMS = 500
_SECRET_PLACES = frozenset({"auth", "env", "password", "imageAuthPassword", "image_auth_password", "ossfs"})
_WORDS = {"dict": "an object", "list": "a list", "NoneType": "null", "bool": "a boolean"}
_VALUE_ERROR = "Value error, "
_RULES = {
    "missing": "is required",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of a reasonable size",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "datetime_type": "must be a time such as 2030-01-01T00:00:00Z",
    "finite_number": "must be a finite number",
    "extra_forbidden": "is no field of this request",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item(s)",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
}
"""Kinds of problems in our words: the library's name its classes and Python's types."""


def validate(model: type[M], value: Any) -> M:
    """The value as a model; raises Invalid with every problem, the first one first."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Invalid(INVALID_PARAMETER, describe(error)) from None


def describe(error: ValidationError) -> str:
    """`<field>: <rule>, got <value>`, several joined by semicolons."""
    if error.error_count() > _MOST_PROBLEMS:  # pydantic can only include all of them
        return f"body: {error.error_count()} values are not as this request has them; see the API's description"
    details = error.errors(include_url=False)
    return "; ".join(_sentence(detail) for detail in details[:5] if not _follows(detail, details))


def _follows(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Whether this only says that a list lacks the items that others are about."""
    place = detail["loc"]
    return detail["type"] == "too_short" and any(
        other is not detail and other["loc"][: len(place)] == place for other in details
    )


def _sentence(detail: ErrorDetails) -> str:
    place = ".".join(_part(part) for part in detail["loc"])
    kind, value = detail["type"], detail["input"]
    rule = _rule(kind, detail.get("ctx", {})) or detail["msg"].removeprefix(_VALUE_ERROR)
    if kind == "value_error" and not place:
        return rule
    text = f"{place or 'body'}: {rule[0].lower()}{rule[1:]}"
    # A rule about several fields has said what is wrong; what is missing has no value.
    silent = kind == "missing" or (kind == "value_error" and isinstance(value, dict | list))
    if silent or _SECRET_PLACES.intersection(str(part) for part in detail["loc"]):
        return text
    return f"{text}, got {_shown(value)}"


def _rule(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "string_pattern_mismatch":
        return PATTERNS[context["pattern"]]
    return _RULES.get(kind, "").format(**context)


def _part(part: int | str) -> str:
    """A key as it was sent, unless it is no key that anybody would send."""
    text = str(part)
    return text if len(text) <= _LONGEST and text.isprintable() else f"{text[:_LONGEST]!r}…"


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
