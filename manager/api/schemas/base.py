"""What every schema of the REST API shares: camelCase on the wire, snake_case accepted, nulls left out of answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, StringConstraints
from pydantic.alias_generators import to_camel


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

    def to_json(self) -> str:
        """The object as it is sent."""
        return self.model_dump_json(exclude_none=True)


class OptionalBody(Wire):
    """A request whose body may be left out altogether."""


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
