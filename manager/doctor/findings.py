"""Findings of checks, and their printed form."""

from __future__ import annotations

import enum
import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_NAME_WIDTH: Final = 16
_WIDTH: Final = 110


class Verdict(enum.Enum):
    """Severity: only `FAIL` keeps the server, or a part of it, from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, the result, and the remedy if there is a problem."""

    verdict: Verdict
    name: str
    text: str
    remedy: str | None = None


def ok(name: str, text: str) -> Finding:
    """The check passed."""
    return Finding(Verdict.OK, name, text)


def warn(name: str, text: str, remedy: str | None = None) -> Finding:
    """Works, with a restriction that the operator should know."""
    return Finding(Verdict.WARN, name, text, remedy)


def fail(name: str, text: str, remedy: str | None = None) -> Finding:
    """Does not work until the operator acts."""
    return Finding(Verdict.FAIL, name, text, remedy)


def lines(finding: Finding) -> list[str]:
    """The finding for people: verdict, name and text in columns, the remedy below."""
    start = f"{finding.verdict.value:4}  {finding.name:{_NAME_WIDTH}}  "
    told = _wrapped(finding.text, start, " " * len(start))
    if finding.remedy:
        arrow = " " * len(start) + "→ "
        told += _wrapped(finding.remedy, arrow, " " * len(arrow))
    return told


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    # Commands and addresses are copied by people: long words are not broken.
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def summary(findings: Iterable[Finding]) -> str:
    """How many of each, in one line."""
    counted = [finding.verdict for finding in findings]
    failed, warned = counted.count(Verdict.FAIL), counted.count(Verdict.WARN)
    return f"checked: {len(counted)}, failed: {failed}, warnings: {warned}"


def as_document(findings: Iterable[Finding]) -> str:
    """The same for programs: a JSON object with the counts and every finding."""
    told = [
        {"verdict": finding.verdict.value, "check": finding.name, "text": finding.text, "remedy": finding.remedy}
        for finding in findings
    ]
    verdicts = [item["verdict"] for item in told]
    counts = {"checked": len(told), "failed": verdicts.count("fail"), "warnings": verdicts.count("warn")}
    return json.dumps({**counts, "findings": told}, indent=2)
