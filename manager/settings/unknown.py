"""Unknown keys: most often a typing mistake, so each is reported with the closest known key, or refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from manager.settings.model import Settings
from manager.settings.problem import Problem
from manager.settings.schema import Kind, Path, inner, sections
from manager.settings.table import Table
from manager.settings.text import dotted

STRICT: Final = frozenset({"server", "docker", "ingress", "egress", "secure_runtime", "storage"})
"""Tables in which a mistake opens what was meant to be closed: `netwrok_mode` would leave the host's network."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """A key or table of a document that is no setting; `refused` where it keeps the server from starting."""

    path: Path
    meant: str | None
    refused: bool

    @property
    def warning(self) -> str:
        """One sentence for a server that starts all the same."""
        text = f"{dotted(self.path)} is not a setting and has no effect"
        return f"{text}; did you mean {self.meant}?" if self.meant else text

    @property
    def problem(self) -> Problem:
        """The same as a reason not to start."""
        text = f"did you mean {self.meant}?" if self.meant else "remove it"
        return Problem(dotted(self.path), f"is not a setting; {text}")


def unknown_keys(document: Mapping[str, Any]) -> list[UnknownKey]:
    """Every key or table of the document that is no setting, in its order."""
    return [_unknown_key(path) for path in _unknown(document, Settings, ())]


def _unknown_key(path: Path) -> UnknownKey:
    meant = suggestion(path)
    table = path[0] if len(path) > 1 or meant is None else meant.partition(".")[0]
    return UnknownKey(path, meant, table in STRICT)


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
