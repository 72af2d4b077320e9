"""What every table of the configuration shares: how a key is declared, so that one declaration feeds everything.

A declaration holds the default, the bounds, the sentence for people and whether the value is a secret. Loading, error
messages, the example files and the reference page are all made from it.
"""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Table(BaseModel):
    """One TOML table. Unknown keys are not an error here; `load` warns of them with a suggestion."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`port = true` would be port 1."""
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            if not {int, float}.isdisjoint((annotation, *typing.get_args(annotation))):
                raise PydanticCustomError("number_type", "a number is wanted")
        return value

    @property
    def given(self) -> bool:
        """Whether the configuration writes any key in this table or below it; a bare header does not count."""
        held = (getattr(self, name) for name in self.model_fields_set)
        return any(value.given if isinstance(value, Table) else True for value in held)


def option(
    default: Any = ...,
    *,
    doc: str,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    allowed: str | None = None,
    shown: str | None = None,
    secret: bool = False,
) -> Any:
    """Declares a key: without a default it is required; `allowed` and `shown` replace the generated wording.

    `allowed` says which values are accepted, `shown` what the reference page prints as default.
    """
    extra: dict[str, JsonValue] = {"allowed": allowed, "shown": shown, "secret": secret}
    factory = {"default_factory": default} if callable(default) else {"default": default}
    return Field(**factory, description=doc, ge=least, le=most, gt=above, json_schema_extra=extra)
