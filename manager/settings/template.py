"""Writes configuration files from the model: the examples, and a skeleton of everything that can be set."""

from __future__ import annotations

import contextlib
import secrets
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import tomlkit
from tomlkit.items import Table as TomlTable

from manager.settings.aliases import SPELLINGS
from manager.settings.examples import EXAMPLES, OWN, Example
from manager.settings.explain import WHOLE, toml_text
from manager.settings.model import Settings
from manager.settings.schema import Key, Kind, Section, sections

Values = Mapping[tuple[str, ...], Any]

_KEY_BYTES: Final = 32
_WIDTH: Final = 96
_SHORT_LIST: Final = 4
_SKELETON_INTRO: Final = (
    "Everything that can be set. Lines that begin with # and no space are settings with their defaults.",
    "Fill in runtime.type and runtime.execd_image, which are required.",
)


def write_config(path: Path, example: str | None, *, force: bool) -> None:
    """Writes the example of that name, or the skeleton, with a random key, for this machine only.

    The file is readable by its owner only. Raises FileExistsError unless `force`, OSError when it cannot be written.
    """
    own = {path: secrets.token_urlsafe(_KEY_BYTES) if value is None else value for path, value in OWN.items()}
    text = skeleton(own) if example is None else render(EXAMPLES[example], own)
    with contextlib.suppress(
        FileExistsError
    ):  # a file in the directory's place: writing the file raises the better error
        path.parent.mkdir(parents=True, exist_ok=True)
    if force:
        path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")


def render(example: Example, own: Values = MappingProxyType({})) -> str:
    """The file of one example: its values, or those in `own`, each below the sentence that explains it."""
    document = tomlkit.document()
    for line in example.intro:
        document.add(tomlkit.comment(line))
    by_path = {section.path: section for section in sections(Settings)}
    for name, values in example.tables.items():
        document.add(tomlkit.nl())
        instead = {path[-1]: value for path, value in own.items() if path[:-1] == (name,)}
        document.add(name, _example_table((name,), {**values, **instead}, by_path))
    return tomlkit.dumps(document)


def _example_table(
    path: tuple[str, ...], values: Mapping[str, Any], by_path: Mapping[tuple[str, ...], Section]
) -> TomlTable:
    table = tomlkit.table()
    docs = {key.name: key for key in by_path[path].own_keys()}
    for name, value in values.items():
        if (*path, name) in by_path:
            table.add(tomlkit.nl())
            table.add(name, _example_table((*path, name), value, by_path))
        else:
            _comment(table, docs[name].doc)
            table.add(name, _item(value))
    return table


def skeleton(own: Values = MappingProxyType({})) -> str:
    """Every table and key of the model, all optional ones commented out but those in `own`."""
    lines = [f"# {line}" for line in _SKELETON_INTRO]
    for section in sections(Settings):
        lines += ["", *(f"# {line}" for line in _wrap(section.doc)), _header(section)]
        for key in section.own_keys():
            if key.path not in SPELLINGS:
                lines += _skeleton_key(key, own, commented=section.kind is not Kind.TABLE)
    return "\n".join(lines) + "\n"


def _header(section: Section) -> str:
    path = ".".join(section.path)
    if section.kind is Kind.ARRAY:
        return f"#[[{path}]]"
    return f"#[{path}.NAME]" if section.kind is Kind.NAMED else f"[{path}]"


def _skeleton_key(key: Key, own: Values, *, commented: bool) -> Iterator[str]:
    yield ""
    yield from (f"# {line}" for line in _wrap(key.doc))
    if key.path in own:
        yield f"{key.name} = {toml_text(own[key.path], WHOLE)}"
        return
    default = "" if key.default is None else key.default
    line = f"{key.name} = {toml_text(default, WHOLE) or '{}'}"
    yield line if key.required and not commented else f"#{line}"


def _comment(table: TomlTable, doc: str) -> None:
    for line in _wrap(doc):
        table.add(tomlkit.comment(line))


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)


def _item(value: Any) -> Any:
    """A value as TOML; long lists get a line per few items."""
    if isinstance(value, Mapping):
        return tomlkit.inline_table()
    if not isinstance(value, list | tuple):
        return tomlkit.item(value)
    array = tomlkit.array()
    array.extend([str(item) for item in value])
    return array.multiline(len(value) > _SHORT_LIST)
