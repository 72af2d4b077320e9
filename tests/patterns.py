"""Every regular expression of the program, and how many steps it takes on a text: counted, not timed.

Python's engine tries alternatives one after the other, so some expressions take quadratic time on texts that almost
match. It does not tell its steps, and a clock tells too little on a busy machine; so `Counter` walks the same parsed
expression in the same order and counts. It knows none of the engine's short cuts, hence never counts too few.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from re import _constants as c
from re import _parser
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
_SEARCHING = frozenset({"search", "sub", "subn", "finditer", "findall", "split"})
_MOST_CHARACTERS = 5
_MOST_STEPS = 2000
"""For each character of the text."""
_MOST_PREFIXES = 6
_SINGLE = frozenset({c.LITERAL, c.NOT_LITERAL, c.IN, c.ANY})
_REPEATS = frozenset({c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT})
_CATEGORIES = {c.CATEGORY_DIGIT: r"\d", c.CATEGORY_SPACE: r"\s", c.CATEGORY_WORD: r"\w"} | {
    c.CATEGORY_NOT_DIGIT: r"\D",
    c.CATEGORY_NOT_SPACE: r"\S",
    c.CATEGORY_NOT_WORD: r"\W",
}


class Pattern(NamedTuple):
    """One regular expression in the source."""

    place: str
    pattern: re.Pattern[Any]
    modes: frozenset[str]
    """The methods by which it is used."""


def patterns(packages: Iterable[str]) -> tuple[list[Pattern], list[str]]:
    """Those of these packages that stand there as they are, and the modules of those put together at run time."""
    found: list[Pattern] = []
    dynamic: list[str] = []
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for call in _calls(tree):
                _sort_in(module, tree, call, found, dynamic)
    return found, dynamic


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr not in {"escape", "purge"}:
                yield node


def _sort_in(module: str, tree: ast.Module, call: ast.Call, found: list[Pattern], dynamic: list[str]) -> None:
    name = _global_name(tree, call)
    place = f"{module}:{call.lineno}"
    if name is not None:
        value = getattr(importlib.import_module(module), name)
        if isinstance(value, re.Pattern):
            found.append(Pattern(f"{module}.{name}", value, _uses(tree, name)))
        else:
            found.append(Pattern(f"{module}.{name}", value.__self__, frozenset({value.__name__})))
    elif isinstance(call.args[0], ast.Constant) and isinstance(call.func, ast.Attribute):
        found.append(Pattern(place, re.compile(call.args[0].value), frozenset({call.func.attr})))
    else:
        dynamic.append(module)


def _global_name(tree: ast.Module, call: ast.Call) -> str | None:
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and any(node is call for node in ast.walk(statement)):
            return target.id
    return None


def _uses(tree: ast.Module, name: str) -> frozenset[str]:
    return frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    )


class Endless(Exception):
    """Raised when a text takes more steps than are worth counting."""


class Counter:
    """Matches one pattern as Python's engine does, and counts what it looks at."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self._flags = pattern.flags
        self.tree = _parser.parse(pattern.pattern, pattern.flags)
        self._text: list[int] = []
        self.steps = 0
        self._most = sys.maxsize
        self._members: dict[int, frozenset[int]] = {}

    def count(self, text: list[int], modes: frozenset[str]) -> int:
        """Steps for looking through the whole text once in each of these ways. Raises Endless."""
        self._text, self.steps, self._most = text, 0, _MOST_STEPS * (len(text) + 20)
        if modes & _SEARCHING:
            self._search()
        if modes - _SEARCHING:
            size = len(text)
            any(end == size or "fullmatch" not in modes for end in self._ends(self.tree, 0, 0))
        return self.steps

    def _search(self) -> None:
        at = 0
        while at <= len(self._text):
            self.steps += 1
            end = next(self._ends(self.tree, 0, at), at)
            at = max(at + 1, end)

    def _ends(self, nodes: Any, index: int, at: int) -> Iterator[int]:
        """Where the nodes from `index` on may end when they begin at `at`, in the order in which they are tried."""
        if index == len(nodes):
            yield at
            return
        for end in self._node_ends(nodes[index], at):
            yield from self._ends(nodes, index + 1, end)

    def _node_ends(self, node: Any, at: int) -> Iterator[int]:
        kind, value = node
        self.steps += 1
        if self.steps > self._most:
            raise Endless
        if kind in _SINGLE:
            if at < len(self._text) and self._text[at] in self.members(node):
                yield at + 1
        elif kind in _REPEATS:
            yield from self._repeat(node, at)
        elif kind is c.SUBPATTERN:
            yield from self._ends(value[-1], 0, at)
        elif kind is c.ATOMIC_GROUP:
            yield from _first(self._ends(value, 0, at))
        elif kind is c.BRANCH:
            for branch in value[1]:
                yield from self._ends(branch, 0, at)
        elif kind is c.AT:
            if self._is_at(value, at):
                yield at
        elif kind in (c.ASSERT, c.ASSERT_NOT):
            ahead, inner = value
            start = at if ahead > 0 else at - len(inner)
            matched = start >= 0 and next(self._ends(inner, 0, start), None) is not None
            if matched is (kind is c.ASSERT):
                yield at
        else:
            raise NotImplementedError(f"the counter does not know {kind}")

    def _repeat(self, node: Any, at: int) -> Iterator[int]:
        kind, (least, most, inner) = node
        if len(inner) == 1 and inner[0][0] in _SINGLE:
            members, end = self.members(inner[0]), at
            limit = len(self._text) if most is c.MAXREPEAT else min(len(self._text), at + most)
            while end < limit and self._text[end] in members:
                end += 1
            self.steps += end - at
            ends: Iterable[int] = range(end, at + least - 1, -1)
            if kind is c.POSSESSIVE_REPEAT:
                ends = list(ends)[:1]
            for end in ends:
                self.steps += 1
                yield end
        elif kind is c.POSSESSIVE_REPEAT:
            yield from _first(self._iterate(node, 0, at))
        else:
            yield from self._iterate(node, 0, at)

    def _iterate(self, node: Any, count: int, at: int) -> Iterator[int]:
        kind, (least, most, inner) = node
        if kind is c.MIN_REPEAT and count >= least:
            yield at
        if most is c.MAXREPEAT or count < most:
            for end in self._ends(inner, 0, at):
                if end > at or count < least:
                    yield from self._iterate(node, count + 1, end)
        if kind is not c.MIN_REPEAT and count >= least:
            yield at

    def _is_at(self, where: Any, at: int) -> bool:
        text, size = self._text, len(self._text)
        if where is c.AT_BEGINNING:
            return at == 0 or bool(self._flags & re.MULTILINE and text[at - 1] == 10)
        if where is c.AT_END:
            return at == size or (text[at] == 10 and (at == size - 1 or bool(self._flags & re.MULTILINE)))
        if where in (c.AT_BEGINNING_STRING, c.AT_END_STRING):
            return at == (0 if where is c.AT_BEGINNING_STRING else size)
        word = [0 <= place < size and chr(text[place]).isalnum() for place in (at - 1, at)]
        return (word[0] != word[1]) is (where is c.AT_BOUNDARY)

    def members(self, node: Any) -> frozenset[int]:
        """The characters (of the first 256) that one node stands for."""
        found = self._members.get(id(node))
        if found is None:
            found = self._members[id(node)] = frozenset(self._find_members(node))
        return found

    def _find_members(self, node: Any) -> set[int]:
        kind, value = node
        every = set(range(256))
        if kind is c.ANY:
            return every if self._flags & re.DOTALL else every - {10}
        if kind is c.NOT_LITERAL:
            return every - self._cased({value})
        if kind is c.LITERAL:
            return self._cased({value})
        negated = value[0][0] is c.NEGATE
        listed: set[int] = set()
        for what, argument in value[negated:]:
            if what is c.LITERAL:
                listed.add(argument)
            elif what is c.RANGE:
                listed.update(range(argument[0], min(argument[1], 255) + 1))
            else:
                listed.update(each for each in every if re.match(_CATEGORIES[argument], chr(each), re.ASCII))
        return every - self._cased(listed) if negated else self._cased(listed)

    def _cased(self, listed: set[int]) -> set[int]:
        if not self._flags & re.IGNORECASE:
            return listed
        return listed | {ord(chr(each).swapcase()) for each in listed if each < 128}


def _first(ends: Iterator[int]) -> Iterator[int]:
    for end in ends:
        yield end
        return


def shapes(counter: Counter) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Beginning, part to be repeated and end of the texts that are worst for a pattern.

    The beginnings are those of a text that matches; the parts are one or two of the characters that its classes stand
    for, and what its groups repeat; the end is nothing, or what fits nowhere.
    """
    characters = _characters(counter)
    example = list(_example(counter, counter.tree))
    beginnings = [example[:size] for size in range(len(example) + 1)]
    beginnings = beginnings[:: -(-len(beginnings) // _MOST_PREFIXES)]
    parts = [list(part) for size in (1, 2) for part in product(characters, repeat=size)]
    parts += [list(_example(counter, body)) for body in _repeated(counter.tree)]
    for beginning, part, end in product(beginnings, parts, ([], [0], [10, 0])):
        if part:
            yield beginning, part, end


def _characters(counter: Counter) -> list[int]:
    """A few characters that tell the classes of the pattern apart: first those that are in most of them."""
    classes = [counter.members(node) for node in _walk(counter.tree) if node[0] in _SINGLE]
    by_classes: dict[tuple[bool, ...], int] = {}
    for character in (*b"a0;=,:/.- \t\"'", *range(256)):
        by_classes.setdefault(tuple(character in each for each in classes), character)
    ranked = sorted(by_classes.items(), key=lambda item: -sum(item[0]))
    return [character for _, character in ranked[:_MOST_CHARACTERS]]


def _walk(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for inner in _inside(node):
            yield from _walk(inner)


def _inside(node: Any) -> list[Any]:
    kind, value = node
    if kind in _REPEATS:
        return [value[2]]
    if kind is c.SUBPATTERN:
        return [value[-1]]
    if kind is c.BRANCH:
        return list(value[1])
    if kind in (c.ASSERT, c.ASSERT_NOT):
        return [value[1]]
    return [value] if kind is c.ATOMIC_GROUP else []


def _repeated(nodes: Any) -> Iterator[Any]:
    for node in _walk(nodes):
        if node[0] in _REPEATS:
            yield node[1][2]


def _example(counter: Counter, nodes: Any) -> Iterator[int]:
    """A short text that fits: repeats as seldom as allowed but once, and of alternatives the first."""
    for node in nodes:
        kind, value = node
        if kind in _SINGLE:
            members = counter.members(node)
            yield next((each for each in b"a0 " if each in members), min(members))
        elif kind in _REPEATS:
            for _ in range(max(1, value[0])):
                yield from _example(counter, value[2])
        elif kind not in (c.AT, c.ASSERT, c.ASSERT_NOT):
            yield from _example(counter, _inside(node)[0])
