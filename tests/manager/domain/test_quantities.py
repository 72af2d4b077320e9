"""Resource limits: every notation that clients use, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.errors import Invalid
from manager.domain.quantities import ALL_GPUS, Limits, cpu_nanos, memory_bytes, parse_limits


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1024", 1024),
        ("512m", 512_000_000),
        ("512M", 512_000_000),
        ("512Mi", 512 * 1024**2),
        ("512MiB", 512 * 1024**2),
        ("4GB", 4_000_000_000),
        ("1.5Gi", 1536 * 1024**2),
        (" 2 ki ", 2048),
        ("1Ti", 1024**4),
        ("7b", 7),
    ],
)
def test_memory(text: str, amount: int) -> None:
    """Decimal and binary suffixes in either case."""
    assert memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "0", "0Mi", "-1", "1i", "ten", "1e9", "1Zi", "9999999Ei", "0.4", "١Mi"])
def test_memory_that_is_none(text: str) -> None:
    """Whatever is not a positive number of bytes is refused by name."""
    with pytest.raises(Invalid, match=r"resourceLimits\.memory"):
        memory_bytes(text)


@pytest.mark.parametrize(("text", "nanos"), [("2", 2_000_000_000), ("0.5", 500_000_000), ("500m", 500_000_000)])
def test_cpu(text: str, nanos: int) -> None:
    """Cores and thousandths of a core."""
    assert cpu_nanos(text) == nanos


@pytest.mark.parametrize("text", ["", "m", "0", "0m", "-1", "nan", "inf", "1e30", "two", "1 core"])
def test_cpu_that_is_none(text: str) -> None:
    """Not finite, not positive, not a number, or too large for the Engine."""
    with pytest.raises(Invalid, match=r"resourceLimits\.cpu"):
        cpu_nanos(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "some", "", "²"])
def test_gpu_that_is_none(text: str) -> None:
    """A positive count or all."""
    with pytest.raises(Invalid, match=r"resourceLimits\.gpu"):
        parse_limits({"gpu": text})


def test_limits_of_a_request() -> None:
    """Absent is unlimited, unknown keys are ignored."""
    assert parse_limits({}) == Limits()
    assert parse_limits({"gpu": "ALL", "disk": "lots"}) == Limits(gpus=ALL_GPUS)
    assert parse_limits({"cpu": "1", "memory": "1k", "gpu": "2"}) == Limits(10**9, 1000, 2)


@given(st.text(max_size=12))
def test_any_text_is_a_positive_amount_or_refused(text: str) -> None:
    """Nothing else comes out, whatever goes in."""
    for parse in (memory_bytes, cpu_nanos):
        try:
            assert 0 < parse(text) < 2**63
        except Invalid:
            continue
