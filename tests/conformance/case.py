"""Cases as data."""

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


def family(name: str, cases: Iterable[Case]) -> list[Case]:
    """A table of cases; their names are unique within it, so that a failure names one of them."""
    table = list(cases)
    names = [case.name for case in table]
    doubles = {case for case in names if names.count(case) > 1}
    if doubles:
        raise ValueError(f"{name}: {sorted(doubles)} twice")
    return table


def every(table: list[Case]) -> pytest.MarkDecorator:
    """Runs a test with each case of a table."""
    return pytest.mark.parametrize("case", table, ids=[case.name for case in table])


in_each_form = pytest.mark.parametrize("form", FORMS, ids=[form.name.lower() for form in FORMS])
"""Runs a test in each way of addressing."""
