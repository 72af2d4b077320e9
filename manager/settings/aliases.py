"""Aliases of keys: the documentation pages and the released server differ, both spellings are accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Path = tuple[str, ...]

SPELLINGS: Final[Mapping[Path, Path]] = {
    ("server", "log_level"): ("log", "level"),
    ("server", "timeout_graceful_shutdown"): ("server", "shutdown_grace_seconds"),
    ("server", "timeout_keep_alive"): ("gateway", "limits", "keep_alive_timeout"),
    ("server", "limit_concurrency"): ("gateway", "limits", "max_connections"),
    ("secure_runtime", "docker_runtime"): ("secure_runtime", "oci_runtime_name"),
}
"""Other spelling → the key whose attribute is read."""

_LEAVES_ALONE: Final[Mapping[Path, object]] = {("server", "limit_concurrency"): 0}
"""Values of the other spelling that mean "nothing in particular"."""

_ABSENT: Final = object()


def written(document: Mapping[str, Any], path: Path) -> Any:
    """The value at `path`, or a marker that equals nothing when the document does not write it."""
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def leaves_alone(other: Path, value: object) -> bool:
    """Whether this value of the other spelling sets nothing."""
    return value == "" or value == _LEAVES_ALONE.get(other, "")


def copied(document: Mapping[str, Any]) -> Iterator[tuple[Path, Path]]:
    """The pairs (as written, as read) of which only the other spelling is written."""
    for other, path in SPELLINGS.items():
        value = written(document, other)
        if value is not _ABSENT and not leaves_alone(other, value) and written(document, path) is _ABSENT:
            yield other, path


def with_both_spellings(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every other spelling also under the key that is read; the argument is left as it is."""
    result = dict(document)
    for other, path in copied(document):
        result = _put(result, path, written(document, other))
    return result


def _put(table: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    name, *rest = path
    inner = table.get(name, {})
    if rest and not isinstance(inner, Mapping):
        return dict(table)  # not a table: left to validation, whose message is better
    return {**table, name: _put(inner, tuple(rest), value) if rest else value}
