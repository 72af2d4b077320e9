"""Writes `docs/conformance.md`: every rule that the suite holds the gateway to, with the number of its cases.

    python -m tests.conformance.report

The page is made from the tests as pytest collects them, so a rule without a test cannot be on it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import pytest

SUITE = Path(__file__).parent
OWN_TEST = "test_report.py"
PAGE = SUITE.parents[1] / "docs" / "conformance.md"
INTRODUCTION = """\
# Conformance of the data plane

What clients and sandboxes can rely on, as rules with the number of cases that hold the gateway to each. Every case is
sent as raw bytes to a listening socket, with a recording backend behind the gateway, and what the backend saw is part
of what is asserted. "Forms" says in how many of the four ways of addressing (header, host, proxy path, uri) each case
runs. The cases are the tables in `tests/conformance`; this page is made from them by
`python -m tests.conformance.report`.
"""

REFUSED = """\
## What is refused by design

Each of these works with some server or proxy, and does not here. The rules that hold the gateway to it are below.

| What | What comes of it | Why |
| --- | --- | --- |
| bytes beyond ASCII in a request target | 400 | a target has none (RFC 3986 §2): `%C3%A9` |
| a method that is not registered, or in lower case | 501 | servers behind us may take it for another |
| `CONNECT` | 501 | this is no forward proxy |
| a client that finishes sending before it has its answer | no answer, the request ends | most have gone |
| two lengths, other codings than `chunked`, folded lines, bare LF | 400 | two parsers differ on them |
| HTTP/2 without TLS (`Upgrade: h2c`) | answered as HTTP/1.1 | its requests could not be seen |
| a 101 for what the client has not asked for | 502 | the sides would speak different protocols |
| an answer that is not one valid message | 502, or a visible cut | nobody may take it for a whole one |

A client that half-closes after its request, as `nc -N` does, cannot be told from one that has gone: who wants an answer
waits for it before closing. Tunnels of other protocols than WebSocket keep their halves, as follows.
"""
ENDS = """\
## How a tunnel ends

| What happens | WebSocket | Any other protocol |
| --- | --- | --- |
| the client finishes sending, or closes | passed on; both close after a second | passed on; the sandbox may go on |
| the sandbox finishes sending, or closes | likewise | passed on; the client may go on |
| both finish, or one resets | both close | both close |
| both send a close frame | both close within a second | means nothing |
| one sends a close frame, and nothing follows | both close after ten seconds | means nothing |
| nothing moves | `gateway.limits.stream_idle_timeout` | `gateway.limits.stream_idle_timeout` |

Half of a WebSocket has no meaning (RFC 6455 §7.1.1); the second is for a close frame in answer, or for word that the
sandbox has died. Protocols like that of an attached terminal say "this was all my input" with a FIN and wait for the
output, so theirs is kept. Over TLS there is no half: either side's end ends both. What was sent before an end goes out
first. An end behind bytes that the other side does not take is seen when they are taken, except that what a client of a
WebSocket has sent is taken in at its end. A side that neither reads nor ends is silent.
"""


@dataclass(frozen=True)
class Rule:
    """One test function: its rule, how many different cases it has, and in how many forms they run."""

    file: str
    family: str
    text: str
    tests: int
    forms: int

    @property
    def cases(self) -> int:
        """Cases, each counted once however many forms it runs in."""
        return self.tests // self.forms


class _Collector:
    def __init__(self) -> None:
        self.items: list[pytest.Function] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = [item for item in session.items if isinstance(item, pytest.Function)]


def rules() -> list[Rule]:
    """All rules of the suite in the order of its files."""
    collector = _Collector()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", str(SUITE)], plugins=[collector])
    return list(_grouped(collector.items))


def _grouped(items: list[pytest.Function]) -> Iterator[Rule]:
    for function, group in groupby(items, key=lambda item: item.function):
        found = list(group)
        file, family = found[0].path.name, first_line(found[0].module.__doc__)
        if file != OWN_TEST:
            forms = {_form(item) for item in found}
            yield Rule(file, family, first_line(inspect.getdoc(function)), len(found), len(forms))


def _form(item: pytest.Function) -> object:
    return item.callspec.params.get("form") if hasattr(item, "callspec") else None


def first_line(text: str | None) -> str:
    """The first line of a docstring, without what markdown would take for a table."""
    return (text or "").strip().splitlines()[0].replace("|", "\\|") if text else ""


def render(found: list[Rule]) -> str:
    """The page."""
    parts = [INTRODUCTION, summary(found), REFUSED, ENDS]
    for file, group in groupby(found, key=lambda rule: rule.file):
        listed = list(group)
        parts.append(f"## {_title(file)}\n\n{listed[0].family}\n")
        parts.append("| Rule | Cases | Forms |\n| --- | ---: | ---: |")
        parts.extend(f"| {rule.text} | {rule.cases} | {rule.forms} |" for rule in listed)
        parts.append("")
    return "\n".join(parts)


def summary(found: list[Rule]) -> str:
    """The table of families."""
    lines = ["| Family | Rules | Cases | Tests |", "| --- | ---: | ---: | ---: |"]
    for file, group in groupby(found, key=lambda rule: rule.file):
        listed = list(group)
        cases, tests = sum(rule.cases for rule in listed), sum(rule.tests for rule in listed)
        lines.append(f"| {_title(file)} | {len(listed)} | {cases} | {tests} |")
    cases, tests = sum(rule.cases for rule in found), sum(rule.tests for rule in found)
    lines.append(f"| **all** | **{len(found)}** | **{cases}** | **{tests}** |")
    return "\n".join(lines) + "\n"


def _title(file: str) -> str:
    return file.removeprefix("test_").removesuffix(".py").replace("_", " ").capitalize()


def collected_apart() -> list[Rule]:
    """The rules, collected in a process of their own: pytest cannot collect inside of itself."""
    command = [sys.executable, "-m", "tests.conformance.report", "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PAGE.parents[1]).stdout
    return [Rule(**fields) for fields in json.loads(out)]


if __name__ == "__main__":
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps([asdict(rule) for rule in rules()]))
    else:
        PAGE.write_text(render(rules()))
