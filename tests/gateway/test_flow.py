"""The valve: reading stops for reasons, and goes on when none is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flow import NOT_READY, SLOW_PEER, Valve
from tests.gateway.harness import Wire

REASONS = (SLOW_PEER, NOT_READY)


@pytest.mark.parametrize("reason", REASONS)
def test_verbs_may_be_repeated(reason: int) -> None:
    """The same reason given twice is taken back once."""
    wire = Wire()
    valve = Valve(wire)
    valve.hold(reason)
    valve.hold(reason)
    assert not wire.reading
    valve.release(reason)
    valve.release(reason)
    assert wire.reading


def test_one_reason_is_enough() -> None:
    """Reading goes on only when nobody has a reason any more."""
    wire = Wire()
    valve = Valve(wire)
    valve.hold(SLOW_PEER)
    valve.hold(NOT_READY)
    valve.release(SLOW_PEER)
    assert not wire.reading
    valve.release(NOT_READY)
    assert wire.reading


def test_other_reason_taken_back() -> None:
    """Taking back what was not given changes nothing."""
    wire = Wire()
    valve = Valve(wire)
    valve.hold(SLOW_PEER)
    valve.release(NOT_READY)
    assert not wire.reading


def test_closing_transport_is_left_alone() -> None:
    """A connection that is closing is neither paused nor resumed: both would raise on some transports."""
    wire = Wire()
    valve = Valve(wire)
    wire.close()
    valve.hold(SLOW_PEER)
    assert wire.reading
    valve.release(SLOW_PEER)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(REASONS)), max_size=20))
def test_any_order(steps: list[tuple[bool, int]]) -> None:
    """Whatever is said in whatever order: reading stands still exactly while somebody has a reason."""
    wire = Wire()
    valve = Valve(wire)
    reasons: set[int] = set()
    for hold, reason in steps:
        (valve.hold if hold else valve.release)(reason)
        (reasons.add if hold else reasons.discard)(reason)
        assert wire.reading is not bool(reasons)
