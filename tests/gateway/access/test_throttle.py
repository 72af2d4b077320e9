"""Guessing signatures gets slow, for one sandbox at a time, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.throttle import BURST, REFILL, FailureThrottle

ID = b"sb"
YEAR = 365 * 86400


def after(failures: int, *, throttle: FailureThrottle | None = None, now: float = 0.0) -> FailureThrottle:
    throttle = throttle or FailureThrottle()
    for _ in range(failures):
        throttle.failed(ID, now)
    return throttle


def test_nobody_waits_at_first() -> None:
    """Without failures nothing is refused."""
    assert FailureThrottle().wait(ID, 0.0) == 0


def test_burst() -> None:
    """So many failures are free, and the next one waits for one refill."""
    assert after(BURST - 1).wait(ID, 0.0) == 0
    assert after(BURST).wait(ID, 0.0) == REFILL


def test_refill() -> None:
    """The wait gets shorter with time, and is over when it said it would be."""
    throttle = after(BURST)
    assert throttle.wait(ID, REFILL / 2) == REFILL / 2
    assert throttle.wait(ID, REFILL) == 0


def test_rate_of_a_guesser() -> None:
    """Whoever guesses as often as he may is far from 2^32 guesses in a year."""
    throttle, now, guesses = after(BURST), 0.0, 0
    while guesses < 1000:
        now += throttle.wait(ID, now)
        throttle.failed(ID, now)
        guesses += 1
    assert guesses / now <= 1.01 / REFILL
    assert YEAR / REFILL < 2**32 / 1000


def test_other_sandboxes() -> None:
    """One sandbox's guesser does not slow another's visitors."""
    assert after(100).wait(b"other", 0.0) == 0


def test_forgets_what_is_over() -> None:
    """After everything has been refilled nothing is remembered."""
    throttle = after(5)
    assert throttle.wait(ID, 5 * REFILL) == 0
    assert len(throttle._failures) == 0


def test_memory_is_bounded() -> None:
    """The sandbox that has failed least recently is forgotten first."""
    throttle = after(BURST, throttle=FailureThrottle(remembered=10))
    for number in range(9):
        throttle.failed(b"%d" % number, 0.0)
    throttle.failed(ID, 0.0)
    for number in range(20, 29):
        throttle.failed(b"%d" % number, 0.0)
    assert throttle.wait(ID, 0.0) > 0
    throttle.failed(b"last", 0.0)
    assert throttle.wait(ID, 0.0) == 0


def test_clock_that_goes_back() -> None:
    """A clock that is set back lets nobody in earlier and never raises."""
    assert after(BURST, now=100.0).wait(ID, 50.0) == REFILL


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_never_more_than_burst_and_refill(steps: list[tuple[float, bool]]) -> None:
    """In any order of events, the failures that were let through never exceed burst plus refill."""
    throttle, now, passed = FailureThrottle(burst=3, refill=10.0), 0.0, 0
    for pause, guess in steps:
        now += pause
        if guess and throttle.wait(ID, now) == 0:
            throttle.failed(ID, now)
            passed += 1
    assert passed <= 3 + now / 10.0 + 1e-6
