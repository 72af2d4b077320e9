"""Token buckets: bursts, the rate in the long run, debts, and many of them in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.token_bucket import TokenBucket, TokenBuckets


def emptied(burst: float = 3, rate: float = 0.5) -> TokenBucket:
    bucket = TokenBucket(burst, rate, 0.0)
    bucket.spend(burst, 0.0)
    return bucket


def test_burst() -> None:
    """As many as it holds may be taken at once, and then one has to wait."""
    bucket = TokenBucket(3, 0.5, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]


def test_refill() -> None:
    """A token comes when it was said to, and the waiting gets shorter until then."""
    bucket = emptied()
    assert [bucket.wait(1.0), bucket.wait(2.0)] == [1.0, 0.0]
    assert [bucket.take(2.0), bucket.take(2.0)] == [0.0, 2.0]


def test_never_more_than_it_holds() -> None:
    """However long nothing is taken, no more than a burst is saved."""
    assert emptied(burst=3).left(1e9) == 3


def test_refused_costs_nothing() -> None:
    """Asking in vain does not put off the time when there is a token."""
    bucket = emptied()
    for tenth in range(20):
        assert bucket.take(tenth / 10) > 0
    assert bucket.take(2.0) == 0.0


def test_debt() -> None:
    """What has happened already is taken even if it is not there, and has to be paid."""
    bucket = emptied(burst=3, rate=0.5)
    assert bucket.spend(2, 0.0) == 4.0
    assert bucket.left(4.0) == 0.0


def test_clock_that_goes_back() -> None:
    """A clock that is set back gives nothing, and the same time is not counted twice when it comes again."""
    bucket = TokenBucket(1, 1.0, 100.0)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(50.0) == bucket.take(100.0) == 1.0


@given(st.lists(st.floats(0, 5), max_size=80), st.integers(1, 5), st.sampled_from([0.1, 1.0, 3.0]))
def test_never_more_than_burst_and_rate(pauses: list[float], burst: int, rate: float) -> None:
    """In any rhythm, what is taken never exceeds the burst and what has come since."""
    bucket, now, taken = TokenBucket(burst, rate, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0.0
    assert taken <= burst + now * rate + 1e-6


def test_a_bucket_each() -> None:
    """What one has used another still has."""
    buckets = TokenBuckets[str](1, 1.0, 10)
    assert buckets.get("a", 0.0).take(0.0) == 0.0
    assert buckets.get("a", 0.0).take(0.0) == pytest.approx(1.0)
    assert buckets.get("b", 0.0).take(0.0) == 0.0


def test_full_ones_are_forgotten() -> None:
    """A bucket that has filled again says nothing, so nothing is kept."""
    buckets = TokenBuckets[str](1, 1.0, 10)
    buckets.get("a", 0.0).take(0.0)
    assert buckets.find("a", 0.5) is not None
    assert buckets.find("a", 1.0) is None
    assert len(buckets) == 0


def test_memory_is_bounded() -> None:
    """Of too many keys the one used least recently is forgotten."""
    buckets = TokenBuckets[int](1, 1.0, 3)
    for key in (1, 2, 3, 1, 4):
        buckets.get(key, 0.0).take(0.0)
    assert [key for key in range(1, 5) if buckets.find(key, 0.0) is not None] == [1, 3, 4]
