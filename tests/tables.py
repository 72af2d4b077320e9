"""Which tests are marked with what: `@pytest.mark.NAME("a", 3)` read from the sources, so that a table of promises can
say for each row which tests keep it, and a test can fail for a row that has none.

`python -m tests.tables NAME` prints the table of one mark.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def marked(name: str) -> dict[object, list[str]]:
    """Each argument of the mark → `file::test` of the tests that carry it."""
    rows: dict[object, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text()
        if f"mark.{name}(" not in source:
            continue
        place = path.relative_to(TESTS.parent)
        for test in _tests(ast.parse(source)):
            for argument in _arguments(test, name):
                rows.setdefault(argument, []).append(f"{place}::{test.name}")
    return rows


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node


def _arguments(test: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[object]:
    """What the mark was given on this test, on one of its parameters too."""
    for decorator in test.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{name}":
                yield from (ast.literal_eval(argument) for argument in node.args)


if __name__ == "__main__":
    for row, tests in sorted(marked(sys.argv[1]).items(), key=lambda item: (str(type(item[0])), item[0])):
        sys.stdout.write(f"{row}\n" + "".join(f"    {test}\n" for test in tests))
