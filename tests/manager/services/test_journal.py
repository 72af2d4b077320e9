"""The journal of changes: what a follower has missed, whatever its changes are numbered by."""

from __future__ import annotations

import pytest

from manager.runtime.base import EventNumbers
from manager.services import journal
from manager.services.inventory import Change
from manager.services.journal import Journal, ProcessNumbers
from tests.manager.fake_runtime import running
from tests.manager.harness import MovedClock


class Versions:
    """Numbers as a cluster gives them: ascending, most of them for other objects."""

    epoch = "cluster"
    last = 100

    def advance(self) -> int:
        """The next one that was about a sandbox."""
        self.last += 7
        return self.last


def change(sandbox_id: str) -> Change:
    """A sandbox appears."""
    return Change(sandbox_id, None, running(sandbox_id))


@pytest.fixture(params=[ProcessNumbers, Versions])
def numbers(request: pytest.FixtureRequest) -> EventNumbers:
    made: EventNumbers = request.param()
    return made


def test_a_follower_reads_on_from_the_number_it_knows(numbers: EventNumbers) -> None:
    """Every change after it, none twice, at most as many as are asked for."""
    book = Journal(MovedClock(), numbers)
    seen = [book.last]
    for name in ("a", "b", "c"):
        book.on_change(change(name))
        seen.append(book.last)
    for place, number in enumerate(seen):
        entries = book.since(number)
        assert entries is not None
        assert [entry.sandbox_id for entry in entries] == ["a", "b", "c"][place:]
        assert [entry.number for entry in entries] == seen[place + 1 :]
    assert [entry.sandbox_id for entry in book.since(seen[0], 2) or ()] == ["a", "b"]


def test_a_number_that_is_not_kept_is_told(numbers: EventNumbers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than the first change that is kept, and what never was a number of ours."""
    monkeypatch.setattr(journal, "KEPT", 2)
    book = Journal(MovedClock(), numbers)
    seen = [book.last]
    for name in ("a", "b", "c"):
        book.on_change(change(name))
        seen.append(book.last)
    assert [book.since(number) is None for number in seen] == [True, False, False, False]
    assert book.since(book.last + 1) is None
    assert book.since(seen[0] - 1) is None


def test_a_viewer_counts_its_own(numbers: EventNumbers) -> None:
    """Whose key sees its own only is not told how many changes of others there were."""
    book = Journal(MovedClock(), numbers)
    for name in ("a", "b"):
        book.on_change(change(name))
    assert book.count("") == 2
    assert book.count("alice") == 0
    place = book.place("", 1)
    assert place is not None
    assert [entry.sandbox_id for entry in book.since(place) or ()] == ["b"]
