"""What every schema of the REST API shares: camelCase on the wire, snake_case accepted, nulls left out of answers.

In a request, null in a field that may be left out means that it is left out: clients write their optional fields either
way. Inside an object of free keys (`env`, a patch of metadata) a null is the value of that key.
"""

from __future__ import annotations

import typing
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError

_NUMBERS: tuple[tuple[type, Literal["int_type", "float_type", "datetime_type"]], ...] = (
    (int, "int_type"),
    (float, "float_type"),
    (datetime, "datetime_type"),
)
"""Types of fields that take a number, and what is wrong with something else there."""


class Wire(BaseModel):
    """One JSON object of the API. Fields nobody knows are ignored, as released servers do."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`"timeout": true` would be a timeout of one second."""
        if isinstance(value, bool) and info.field_name is not None:
            wanted = _types(cls.model_fields[info.field_name].annotation)
            problem = next((problem for kind, problem in _NUMBERS if kind in wanted), None)
            if problem is not None and bool not in wanted:
                raise PydanticKnownError(problem)
        return value

    def to_json(self) -> str:
        """The object as it is sent."""
        return self.model_dump_json(exclude_none=True)


class Request(Wire):
    """One JSON object that callers send: null in a field that may be left out means that it is left out."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        optional = {
            name
            for field, info in cls.model_fields.items()
            if not info.is_required()
            for name in (field, info.validation_alias)
        }
        return {key: value for key, value in data.items() if value is not None or key not in optional}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        required = described.get("required", ())
        for name, field in described.get("properties", {}).items():
            if name not in required:
                described["properties"][name] = _nullable(field)
        return reference


class OptionalBody(Request):
    """A request whose body may be left out altogether, or be null."""


_ABOUT_THE_FIELD = frozenset({"default", "description", "examples", "title"})
_NULL = {"type": "null"}


def _nullable(field: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of a field that may be null as well."""
    if _NULL in field.get("anyOf", ()):
        return field
    about = {key: value for key, value in field.items() if key in _ABOUT_THE_FIELD}
    value = {key: item for key, item in field.items() if key not in _ABOUT_THE_FIELD}
    return {"anyOf": [*(value.get("anyOf") or [value]), _NULL], **about}


def _types(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    inner = [part for part in typing.get_args(annotation) if part is not annotation]
    return {annotation}.union(*map(_types, inner)) if inner else {annotation}


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must hold no control characters")
    return text


Printable = Annotated[str, AfterValidator(_printable)]
"""A name, a path or another text that people read in one line."""
Text = Annotated[Printable, StringConstraints(min_length=1)]
"""The same where something has to be there."""


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a moment between the years 1 and 9999 in UTC") from None


def timestamp(moment: datetime) -> str:
    """The moment as the API writes it: UTC with `Z`, a fraction only where there is one."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Timestamp = Annotated[datetime, AfterValidator(_utc), PlainSerializer(timestamp, return_type=str, when_used="json")]
"""A moment: ISO 8601 or epoch seconds in, ISO 8601 in UTC out; without a zone it is UTC."""

Json = dict[str, Any]
