"""No regular expression takes more than linear time, whatever it is given: what peers send is among it.

Steps are counted by a model of the engine (`tests/patterns.py`), so that the result does not depend on the machine. A
pattern is tried on texts in which a part that it may repeat occurs ever more often. It passes when twice as many take
about twice as many steps; a quadratic one takes four times as many.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from gateway.access.api_keys import ApiKeys
from tests.patterns import Counter, Endless, Pattern, patterns, shapes

FOUND, DYNAMIC = patterns(("gateway", "manager"))
MADE = [
    Pattern("gateway.keys.OwnKeys", ApiKeys([b"key", b"aa"])._lines, frozenset({"sub"})),
]
"""Those that are put together at run time, as they are then; `test_none_is_missing` says when one is not here."""
OPERATORS = frozenset({"manager.settings.rules._PUBLIC_PATH"})
"""Those that see the configuration file only."""
TIMES = 64
CHEAP = 20
"""Steps for each character of a text that need no second look: quadratic ones are far above at `TIMES`."""
GROWTH = 2.6


@pytest.fixture(autouse=True)
def deep() -> Iterator[None]:
    """The counter calls itself for every repetition of a group."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


def worst_growth(pattern: Pattern) -> tuple[float, str]:
    """How much the steps grow at worst when a part is there twice as often, and where."""
    counter, worst = Counter(pattern.pattern), (0.0, "")
    for beginning, part, end in shapes(counter):
        where = f"{bytes(beginning)!r} + {bytes(part)!r} * n + {bytes(end)!r}"
        try:
            once = counter.count(beginning + part * TIMES + end, pattern.modes)
            if once > CHEAP * (len(part) * TIMES + 20):
                twice = counter.count(beginning + part * 2 * TIMES + end, pattern.modes)
                worst = max(worst, (twice / once, where))
                if worst[0] > GROWTH:
                    break
        except Endless:
            return float("inf"), where
    return worst


@pytest.mark.parametrize(
    "pattern", [each for each in (*FOUND, *MADE) if each.place not in OPERATORS], ids=lambda each: each.place
)
def test_steps_grow_with_the_text(pattern: Pattern) -> None:
    """Twice the text takes twice the steps."""
    assert pattern.modes, "this pattern is used in a way that the test does not see"
    growth, where = worst_growth(pattern)
    assert growth < GROWTH, where


def test_none_is_missing() -> None:
    """Every expression of the source is tried, those put together at run time among them."""
    assert sorted(DYNAMIC) == ["gateway.access.api_keys"]
    assert len(FOUND) > 40


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (rb"(\s*[0-9.]+\s*[;,]\s*(?:url\s*=\s*)?[\"']?)([^\"']*)(.*)", "sub"),
        (rb"\s*[0-9]\s*[kmg]?\s*", "fullmatch"),
        (rb"(?:a|aa)+b", "match"),
        (rb"[^:]*:[^;]*;", "search"),
    ],
)
def test_quadratic_ones_are_noticed(text: bytes, mode: str) -> None:
    """The first stood in the rewriting of Refresh once."""
    assert worst_growth(Pattern("planted", re.compile(text), frozenset({mode})))[0] > GROWTH


@pytest.mark.parametrize(
    "pattern", [each for each in FOUND if isinstance(each.pattern.pattern, bytes)], ids=lambda each: each.place
)
def test_the_counter_agrees_with_the_engine(pattern: Pattern) -> None:
    """What the model matches, Python matches: a model of something else would prove nothing."""
    counter = Counter(pattern.pattern)
    for beginning, part, end in list(shapes(counter))[::7]:
        text = beginning + part * 3 + end
        counter._text = text
        found = pattern.pattern.match(bytes(text))
        assert next(counter._ends(counter.tree, 0, 0), None) == (None if found is None else found.end())
