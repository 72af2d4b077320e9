"""Which codes the manager can answer, read from its source: what its failures are raised with, whatever the spelling.

A code is the first argument of a failure, or of the envelope itself: a text, or a name that stands for one. Where it
is neither (a table, a parameter), the texts of that shape in the same module are its codes.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from manager.domain import errors
from manager.domain.codes import Codes

MANAGER = Path(__file__).parents[2] / "manager"
RUNTIME = "docker"
SHAPE = re.compile(r"[A-Z]+::[A-Z_]+")
WIDE_SHAPE = re.compile(r"(?:[A-Z]+::)?[A-Z]+(?:_[A-Z]+)*")
FAILURES = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
ANSWERS = FAILURES | {"envelope", "Abandoned"}


def codes() -> set[str]:
    """Every code in the source of the manager."""
    found = {value for value in vars_of(Codes(RUNTIME)).values() if SHAPE.fullmatch(value)}
    for path in sorted(MANAGER.rglob("*.py")):
        found |= set(_in_module(path))
    return found


def vars_of(one: object) -> dict[str, str]:
    """The attributes of an object with slots."""
    return {name: str(getattr(one, name)) for name in getattr(type(one), "__slots__", ())}


def _in_module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    dotted = ".".join((MANAGER.name, *path.relative_to(MANAGER).with_suffix("").parts)).removesuffix(".__init__")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SHAPE.fullmatch(node.value):
            yield node.value
        elif isinstance(node, ast.Call) and node.args and _name(node.func) in ANSWERS:
            yield from _of_argument(node.args[_place(node)], importlib.import_module(dotted))


def _place(call: ast.Call) -> int:
    """An envelope's first argument is the status."""
    return 1 if _name(call.func) == "envelope" else 0


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _of_argument(node: ast.expr, module: ModuleType) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.Name):
        value = getattr(module, node.id, None)
    else:
        return
    if isinstance(value, str) and value and WIDE_SHAPE.fullmatch(value):
        yield value
