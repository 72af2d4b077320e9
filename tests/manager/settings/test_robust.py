"""Whatever a file holds, it is loaded or refused in lines: nothing else ever leaves the loader."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from manager.settings.explain import explain
from manager.settings.model import Settings
from manager.settings.schema import Kind, Section, sections
from manager.settings.text import dotted, printable
from manager.settings.unknown import unknown_keys

ODD: tuple[Any, ...] = (True, -1, 0, 1.5, float("inf"), "", "x\ny", [], [1], [[]], {}, {"a": 1}, date(2026, 1, 1), [{}])
RUNTIME = {"type": "docker", "execd_image": "execd"}
SECTIONS = list(sections(Settings))


def _lines(document: dict[str, Any]) -> list[str]:
    unknown_keys(document)
    try:
        Settings.model_validate(document)
    except ValidationError as error:
        return [str(problem) for problem in explain(error, document, {})]
    return []


def _document(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"runtime": dict(RUNTIME)}
    table = document
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value
    return document


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: ".".join(section.path))
def test_an_odd_value_is_accepted_or_refused_in_a_line(section: Section) -> None:
    """Every key, with values of every kind: one printable line that names the key, or none."""
    for key in section.own_keys():
        for value in ODD:
            for line in _lines(_document(key.path, value)):
                assert line.isprintable()
                assert line.startswith(section.path[0])


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: ".".join(section.path))
def test_an_odd_table_is_refused_in_a_line(section: Section) -> None:
    """What stands where a table belongs is named by the table."""
    for value in ODD:
        if isinstance(value, dict) or (isinstance(value, list) and section.kind is Kind.ARRAY):
            continue
        lines = _lines(_document(section.path, value))
        assert lines
        assert all(line.isprintable() and line.startswith(".".join(section.path)) for line in lines)


@given(
    st.dictionaries(st.text(max_size=8), st.dictionaries(st.text(max_size=8), st.integers(), max_size=2), max_size=3)
)
def test_any_names_are_taken(tables: dict[str, Any]) -> None:
    """Tables and keys nobody knows are warned of, with their names written out."""
    document = {"runtime": RUNTIME, **tables}

    for key in unknown_keys(document):
        assert str(key.problem).isprintable()
        assert printable(key.warning).isprintable()
    assert all(line.isprintable() for line in _lines(document))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("docker", "pids_limit"), "docker.pids_limit"),
        (("keys", 0, "key_id"), "keys[0].key_id"),
        (("registries", "reg.example:5000"), 'registries."reg.example:5000"'),
        (("a\nb",), '"a\\nb"'),
    ],
)
def test_a_path_is_written_as_toml_does(path: tuple[int | str, ...], text: str) -> None:
    """Plain names stand bare, others in quotes."""
    assert dotted(path) == text
