"""Unknown keys: most often a typing mistake, so each is reported with the closest known key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from manager.settings.model import Settings
from manager.settings.schema import Kind, Path, inner, sections
from manager.settings.table import Table
from manager.settings.text import dotted


def unknown_keys(document: Mapping[str, Any]) -> list[str]:
    """One sentence per key or table of the document that is no setting."""
    return [_sentence(path) for path in _unknown(document, Settings, ())]


def _unknown(document: Mapping[str, Any], table: type[Table], path: Path) -> Iterator[Path]:
    for name, value in document.items():
        info = table.model_fields.get(name)
        if info is None:
            yield (*path, name)
            continue
        found = inner(info)
        if found is not None:
            for below, held in _tables(value, found[1], (*path, name)):
                yield from _unknown(held, found[0], below)


def _tables(value: Any, kind: Kind, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The tables a value holds, with their paths; what is not a table is left to validation."""
    if kind is Kind.ARRAY and isinstance(value, list):
        yield from ((path, item) for item in value if isinstance(item, Mapping))
    elif kind is Kind.NAMED and isinstance(value, Mapping):
        yield from (((*path, name), item) for name, item in value.items() if isinstance(item, Mapping))
    elif kind is Kind.TABLE and isinstance(value, Mapping):
        yield path, value


def _sentence(path: Path) -> str:
    text = f"{dotted(path)} is not a setting and has no effect"
    meant = suggestion(path)
    return f"{text}; did you mean {meant}?" if meant else text


def suggestion(path: Path) -> str | None:
    """The setting that `path` was probably meant to be, or None when nothing is near."""
    known = [".".join(key.path) for section in sections(Settings) for key in section.own_keys()]
    known += [".".join(section.path) for section in sections(Settings)]
    wanted = ".".join(path).lower()
    same_name = [name for name in known if name.rsplit(".", 1)[-1] == path[-1].lower()]
    same_table = [name for name in known if name.rpartition(".")[0] == ".".join(path[:-1])]
    for candidates, cutoff in ((same_table, 0.75), (same_name, 0.0), (known, 0.75)):
        near = difflib.get_close_matches(wanted, candidates, n=1, cutoff=cutoff)
        if near:
            return near[0]
    return None
