"""Cases as data, by family, so that they can be counted and published."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.conformance.address import FORMS


@dataclass(frozen=True)
class Case:
    """One message on the wire and what has to come of it."""

    name: str
    raw: bytes
    status: int = 200
    """The status that the client gets."""
    saw: bytes | None = None
    """What the backend gets, where the family looks at it."""


FAMILIES: dict[str, tuple[list[Case], int]] = {}
"""Every table, with the number of ways in which its cases run."""


def family(name: str, cases: Iterable[Case], ways: int = len(FORMS)) -> list[Case]:
    """Registers a table under its name; names of cases are unique within it."""
    table = list(cases)
    names = [case.name for case in table]
    doubles = {case for case in names if names.count(case) > 1}
    if doubles:
        raise ValueError(f"{name}: {sorted(doubles)} twice")
    FAMILIES[name] = (table, ways)
    return table


def every(table: list[Case]) -> pytest.MarkDecorator:
    """Runs a test with each case of a table."""
    return pytest.mark.parametrize("case", table, ids=[case.name for case in table])


in_each_form = pytest.mark.parametrize("form", FORMS, ids=[form.name.lower() for form in FORMS])
"""Runs a test in each way of addressing."""
