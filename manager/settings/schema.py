"""The model as data: every table and key with its words. Messages, examples and the reference page are made from it."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from manager.settings.table import Table

Path = tuple[str, ...]


class Kind(enum.Enum):
    """How a table is written: `[name]`, `[[name]]`, or `[name.ANY]`."""

    TABLE = "table"
    ARRAY = "array"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: where it is and everything its declaration says."""

    path: Path
    info: FieldInfo

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path[-1]

    @property
    def doc(self) -> str:
        """What the key does, in one sentence."""
        return self.info.description or ""

    @property
    def required(self) -> bool:
        """Whether a configuration without it is refused."""
        return self.info.is_required()

    @property
    def default(self) -> Any:
        """The value without the key; None for required ones."""
        value = self.info.get_default(call_default_factory=True, validated_data={})
        return None if value is PydanticUndefined else value

    @property
    def secret(self) -> bool:
        """Whether its value is never shown."""
        return bool(self._extra("secret"))

    @property
    def shown(self) -> str | None:
        """What stands as default on the reference page, where the value itself would say too little."""
        shown = self._extra("shown")
        return None if shown is None else str(shown)

    @property
    def allowed(self) -> str:
        """Which values are accepted, in words that follow "must be"."""
        return self._extra("allowed") or _allowed(self.info)

    @property
    def type(self) -> str:
        """The TOML type, in one word."""
        return _type(_plain(self.info.annotation))

    def _extra(self, name: str) -> Any:
        extra = self.info.json_schema_extra
        return extra.get(name) if isinstance(extra, dict) else None


@dataclass(frozen=True, slots=True)
class Section:
    """One table and how it is written."""

    path: Path
    table: type[Table]
    kind: Kind
    doc: str

    def own_keys(self) -> Iterator[Key]:
        """Its own keys, without the tables below it."""
        for name, info in self.table.model_fields.items():
            if inner(info) is None:
                yield Key((*self.path, name), info)


def sections(root: type[Table], path: Path = ()) -> Iterator[Section]:
    """Every table below `root`, in the order of the model, outer before inner."""
    for name, info in root.model_fields.items():
        found = inner(info)
        if found is not None:
            table, kind = found
            yield Section((*path, name), table, kind, info.description or "")
            yield from sections(table, (*path, name))


def inner(info: FieldInfo) -> tuple[type[Table], Kind] | None:
    """The table a field holds and how it is written, or None when the field is a key."""
    for marker in info.metadata:
        if hasattr(marker, "table"):
            return marker.table, Kind.TABLE
    annotation = info.annotation
    if _is_table(annotation):
        return typing.cast("type[Table]", annotation), Kind.TABLE
    arguments = typing.get_args(annotation)
    if arguments and typing.get_origin(annotation) is tuple and _is_table(arguments[0]):
        return arguments[0], Kind.ARRAY
    if arguments and typing.get_origin(annotation) is dict and _is_table(arguments[1]):
        return arguments[1], Kind.NAMED
    return None


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)


def _plain(annotation: Any) -> Any:
    """The annotation without `| None` and without the checks attached to it."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _plain(rest[0])
    return annotation


_TYPES: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    SecretStr: "string",
    tuple: "array",
    dict: "table",
    Literal: "string",
}
_WORDS: dict[str, str] = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a string",
    "array": "a list of strings",
    "table": "a table of strings",
}


def _type(annotation: Any) -> str:
    return _TYPES[typing.get_origin(annotation) or annotation]


def _allowed(info: FieldInfo) -> str:
    annotation = _plain(info.annotation)
    if typing.get_origin(annotation) is Literal:
        quoted = [f'"{choice}"' for choice in typing.get_args(annotation)]
        return f"{', '.join(quoted[:-1])} or {quoted[-1]}"
    return _WORDS[_type(annotation)] + _bounds(info)


def _bounds(info: FieldInfo) -> str:
    least = most = None
    for bound in info.metadata:
        if isinstance(bound, annotated_types.Gt):
            return f" above {bound.gt}"
        if isinstance(bound, annotated_types.Ge):
            least = bound.ge
        elif isinstance(bound, annotated_types.Le):
            most = bound.le
    if least is None:
        return ""
    return f" of at least {least}" if most is None else f" from {least} to {most}"
