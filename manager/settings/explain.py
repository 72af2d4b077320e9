"""Validation errors → problems: key, value and what is allowed, one line each, secrets hidden."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from manager.settings.aliases import copied
from manager.settings.model import CONFLICT, Settings
from manager.settings.problem import Problem
from manager.settings.schema import Key, Kind, Path, inner
from manager.settings.table import Table
from manager.settings.text import dotted

HIDDEN: Final = "(hidden)"
_MAX_SHOWN: Final = 80
WHOLE: Final = 10_000
"""As `longest` of `toml_text`: uncut."""
Location = tuple[int | str, ...]


def explain(error: ValidationError, document: Mapping[str, Any], origins: Mapping[Path, str]) -> list[Problem]:
    """One problem per thing that is wrong, named as the document or the environment (`origins`) wrote it."""
    copies = {read: as_written for as_written, read in copied(document)}
    found: dict[Problem, None] = {}
    for detail in error.errors(include_url=False):
        if tuple(detail["loc"]) in copies:
            continue  # the other spelling, which is the one written, is reported by itself
        for problem in _problems(detail):
            found[_as_written(problem, copies, origins)] = None
    return list(found)


def _as_written(problem: Problem, copies: Mapping[Path, Path], origins: Mapping[Path, str]) -> Problem:
    path = tuple(problem.key.split("."))
    name = dotted(copies[path]) if path in copies else problem.key
    origin = origins.get(path)
    return replace(problem, key=f"{name} (from {origin})" if origin else name)


def _problems(detail: ErrorDetails) -> Iterator[Problem]:
    if detail["type"] == CONFLICT:
        yield from detail["ctx"]["found"]
        return
    where = _find(detail["loc"])
    if isinstance(where, Key):
        yield _key_problem(where, detail)
    elif detail["type"] == "missing":
        yield from (_missing(key, key.path) for key in _required(where, detail["loc"]))
    else:
        yield Problem(dotted(detail["loc"]), f"must be a table, written [{dotted(detail['loc'])}]")


def _key_problem(key: Key, detail: ErrorDetails) -> Problem:
    if detail["type"] == "missing":
        return _missing(key, detail["loc"])
    text = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else f"must be {key.allowed}"
    return Problem(dotted(detail["loc"]), text, HIDDEN if key.secret else toml_text(detail["input"]))


def _missing(key: Key, location: Location) -> Problem:
    return Problem(dotted(location), f"is required; it must be {key.allowed}")


def _required(table: type[Table], location: Location) -> Iterator[Key]:
    for name, info in table.model_fields.items():
        if info.is_required():
            yield Key((*map(str, location), name), info)


def _find(location: Location) -> Key | type[Table]:
    """The key at the location, or the table when it names one; indexes and free names are passed over."""
    table: type[Table] = Settings
    parts = iter(location)
    for part in parts:
        info = table.model_fields[str(part)]
        found = inner(info)
        if found is None or (found[1] is not Kind.TABLE and next(parts, None) is None):
            return Key(tuple(map(str, location)), info)
        table = found[0]
    return table


def toml_text(value: Any, longest: int = _MAX_SHOWN) -> str | None:
    """A value as a configuration file would write it, cut at `longest`; None for tables and lists of tables."""
    if isinstance(value, Mapping):
        return None
    if isinstance(value, list | tuple):
        items = [toml_text(item, longest) for item in value]
        return None if None in items else _short(f"[{', '.join(filter(None, items))}]", longest)
    if isinstance(value, str | bool | int):
        return _short(json.dumps(value, ensure_ascii=False), longest)
    return _short(str(value), longest)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
