"""The state tables: every pair of state and event that is not in them is refused, naming both."""

from __future__ import annotations

import itertools

import pytest

from manager.domain.lifecycle import MOVES, Event, IllegalMove, move
from manager.domain.sandbox import SandboxState
from manager.domain.snapshot import SNAPSHOT_MOVES, IllegalSnapshotMove, SnapshotState, check_move

PAIRS = list(itertools.product(SandboxState, Event))


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in MOVES])
def test_what_the_table_lacks_raises(state: SandboxState, event: Event) -> None:
    """An event in a state without a row raises and names the state and the event."""
    with pytest.raises(IllegalMove) as refused:
        move(state, event)
    assert state.value in str(refused.value)
    assert event.value in str(refused.value)


@pytest.mark.parametrize(("state", "event"), MOVES)
def test_what_the_table_has_leads_there(state: SandboxState, event: Event) -> None:
    """An event with a row leads to the state of the row."""
    assert move(state, event) is MOVES[state, event]


def test_every_state_can_be_deleted() -> None:
    """There is no state a caller cannot get rid of."""
    assert {state for state, event in MOVES if event is Event.DELETE} == set(SandboxState)


def test_a_snapshot_in_the_making_cannot_be_deleted() -> None:
    """Deleting follows only states in which nobody writes the image."""
    assert SnapshotState.DELETING not in SNAPSHOT_MOVES[SnapshotState.CREATING]
    assert set(SNAPSHOT_MOVES) == set(SnapshotState)


@pytest.mark.parametrize(("state", "following"), list(itertools.product(SnapshotState, SnapshotState)))
def test_snapshots_move_as_their_table_says(state: SnapshotState, following: SnapshotState) -> None:
    """Any other move raises and names both states."""
    if following in SNAPSHOT_MOVES[state]:
        check_move(state, following)
    else:
        with pytest.raises(IllegalSnapshotMove, match=f"{state.value} cannot become {following.value}"):
            check_move(state, following)
