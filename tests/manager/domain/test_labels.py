"""Metadata keys and values obey the rules of labels; extensions those we know."""

from __future__ import annotations

import pytest

from manager.domain import extensions, labels

GOOD_KEYS = ["a", "A-b_c.d", "example.com/name", "x" * 63, "a.b/" + "x" * 63]
BAD_KEYS = [
    "",
    "-a",
    "a-",
    "a b",
    "x" * 64,
    "/a",
    "a/",
    "UPPER.com/a",
    "a/b/c",
    "ä",
    "a\n",
    "opensandbox.io/id",
    "a..b/c",
]
GOOD_VALUES = ["", "a", "A1", "x" * 63, "a-b_c.d"]
BAD_VALUES = ["-", "a b", "x" * 64, "ä", "a\n", "\x7f"]


@pytest.mark.parametrize("key", GOOD_KEYS)
def test_good_keys(key: str) -> None:
    """A name of at most 63 characters, with or without a DNS prefix."""
    assert labels.key_problem(key) is None


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys(key: str) -> None:
    """Everything else is refused, and the refusal names the key."""
    assert repr(key[:80]) in (labels.first_problem({key: "v"}) or "")


@pytest.mark.parametrize("value", GOOD_VALUES)
def test_good_values(value: str) -> None:
    """Empty, or at most 63 characters of the label alphabet."""
    assert labels.value_problem(value) is None


@pytest.mark.parametrize("value", BAD_VALUES)
def test_bad_values(value: str) -> None:
    """Everything else is refused."""
    assert labels.value_problem(value) is not None


@pytest.mark.parametrize("seconds", ["300", "86400", " 600 "])
def test_renewal_within_bounds(seconds: str) -> None:
    """Five minutes to a day."""
    assert extensions.problem({extensions.RENEW_EXTEND: seconds}) is None
    assert extensions.renew_seconds({extensions.RENEW_EXTEND: seconds}) == int(seconds)


@pytest.mark.parametrize("seconds", ["", "299", "86401", "x", "-300", "3e2", "٣٠٠", "9" * 40])
def test_renewal_out_of_bounds(seconds: str) -> None:
    """Anything else is refused by the name of the key."""
    assert extensions.RENEW_EXTEND in (extensions.problem({extensions.RENEW_EXTEND: seconds}) or "")


def test_only_marked_extensions_are_shown() -> None:
    """Keys under the prefix come back to the caller, others do not."""
    assert extensions.echoed({"opensandbox.extensions.a": "1", "poolRef": "x"}) == {"opensandbox.extensions.a": "1"}
