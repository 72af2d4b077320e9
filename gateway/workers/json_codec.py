"""Values ↔ what JSON can hold, by their type hints: records cross to another process without a line for each field.

    hint                          in JSON
    bool, int, float, str, None   themselves
    bytes                         a string of the same bytes (latin-1)
    an enum                       its value
    tuple, frozenset              a list
    Mapping[K, V]                 a list of pairs, since keys need not be strings
    a dataclass                   an object
    Any                           itself

Both ends are the same version of this program, so nothing is defaulted, skipped or checked twice.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
Convert = Callable[[Any], Any]


def to_plain(value: Any) -> Any:
    """The dataclass as JSON can hold it. Raises TypeError for a field whose hint is none of the above."""
    kind: Any = type(value)
    return _writer(kind)(value)


def from_plain(kind: type[_T], plain: Any) -> _T:
    """The value of this type that `to_plain` has made `plain` from."""
    return cast(_T, _reader(cast(Any, kind))(plain))


def _same(value: Any) -> Any:
    return value


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return value.encode("latin-1")


@functools.cache
def _writer(hint: Any) -> Convert:
    if hint is bytes:
        return _text
    if _is_plain(hint):
        return _same
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return lambda value: value.value
    if dataclasses.is_dataclass(hint):
        fields = [(name, _writer(field)) for name, field in _fields(hint)]
        return lambda value: {name: write(getattr(value, name)) for name, write in fields}
    return _nested(hint, _writer, _write_each, _write_pairs)


@functools.cache
def _reader(hint: Any) -> Convert:
    if hint is bytes:
        return _bytes
    if _is_plain(hint):
        return _same
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    if dataclasses.is_dataclass(hint):
        fields = [(name, _reader(field)) for name, field in _fields(hint)]
        make = cast(Callable[..., Any], hint)
        return lambda plain: make(**{name: read(plain[name]) for name, read in fields})
    return _nested(hint, _reader, _read_each, _read_pairs)


def _is_plain(hint: Any) -> bool:
    return hint in (bool, int, float, str, type(None), Any)


def _fields(kind: Any) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(kind)]


def _nested(
    hint: Any,
    inner: Callable[[Any], Convert],
    each: Callable[[type, list[Convert], bool], Convert],
    pairs: Callable[[Convert, Convert], Convert],
) -> Convert:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (present,) = (argument for argument in arguments if argument is not type(None))
        convert = inner(present)
        return lambda value: None if value is None else convert(value)
    if origin in (tuple, frozenset):
        endless = origin is frozenset or arguments[-1] is ...
        parts = arguments[:1] if endless else arguments
        return each(origin, [inner(part) for part in parts], endless)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return pairs(inner(arguments[0]), inner(arguments[1]))
    raise TypeError(f"{hint!r} has no form in JSON")


def _write_each(_: type, parts: list[Convert], endless: bool) -> Convert:
    if endless:
        return lambda value: [*map(parts[0], value)]
    return lambda value: [write(item) for write, item in zip(parts, value, strict=True)]


def _read_each(kind: type, parts: list[Convert], endless: bool) -> Convert:
    if endless:
        return lambda plain: kind(map(parts[0], plain))
    return lambda plain: kind(read(item) for read, item in zip(parts, plain, strict=True))


def _write_pairs(key: Convert, item: Convert) -> Convert:
    return lambda value: [[key(name), item(held)] for name, held in value.items()]


def _read_pairs(key: Convert, item: Convert) -> Convert:
    return lambda plain: {key(name): item(held) for name, held in plain}
