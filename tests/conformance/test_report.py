"""The published page says what the suite holds."""

from __future__ import annotations

import sys

import pytest

from tests.conformance import report

LEAST_CASES = 900
pytestmark = pytest.mark.timeout(120)
"""Collecting the suite once more takes as long as importing it, on a busy machine."""


@pytest.fixture(scope="module")
def found() -> list[report.Rule]:
    """The rules as they are now."""
    return report.collected_apart()


def test_page_is_current(found: list[report.Rule]) -> None:
    """`python -m tests.conformance.report` has been run after the last change."""
    assert report.PAGE.read_text() == report.render(found)


def test_every_rule_is_a_sentence(found: list[report.Rule]) -> None:
    """A test without a rule in its docstring says nothing to a reader."""
    assert [rule.text for rule in found if not rule.text.endswith(".")] == []


def test_table(found: list[report.Rule], capsys: pytest.CaptureFixture[str]) -> None:
    """The suite does not shrink unnoticed, and shows its table at every run."""
    with capsys.disabled():
        sys.stdout.write("\n" + report.summary(found))
    assert sum(rule.cases for rule in found) >= LEAST_CASES
