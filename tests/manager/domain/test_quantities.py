"""Resource limits: every notation that clients use, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.errors import Invalid
from manager.domain.quantities import (
    ALL_GPUS,
    UNASKED,
    Limits,
    byte_count,
    cpu_nanos,
    parse_limits,
    parse_requests,
)


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
    assert byte_count(text, "memory") == amount


@pytest.mark.parametrize("text", ["", "0", "0Mi", "-1", "1i", "ten", "1e9", "1Zi", "9999999Ei", "0.4", "١Mi"])
def test_memory_that_is_none(text: str) -> None:
    """Whatever is not a positive number of bytes is refused by name."""
    with pytest.raises(Invalid, match=r"Invalid resourceLimits\.memory: "):
        parse_limits({"memory": text})


@pytest.mark.parametrize(("text", "nanos"), [("2", 2_000_000_000), ("0.5", 500_000_000), ("500m", 500_000_000)])
def test_cpu(text: str, nanos: int) -> None:
    """Cores and thousandths of a core."""
    assert cpu_nanos(text, "cpu") == nanos


@pytest.mark.parametrize("text", ["", "m", "0", "0m", "-1", "nan", "inf", "1e30", "9e999999", "two", "1 core", "1_0"])
def test_cpu_that_is_none(text: str) -> None:
    """Not finite, not positive, not a number, or too large for the Engine."""
    with pytest.raises(Invalid, match=r"resourceLimits\.cpu"):
        parse_limits({"cpu": text})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "some", "", "²", "1" * 5000])
def test_gpu_that_is_none(text: str) -> None:
    """A positive count or all."""
    with pytest.raises(Invalid, match=r"resourceLimits\.gpu"):
        parse_limits({"gpu": text})


def test_limits_of_a_request() -> None:
    """Absent is unlimited; devices and disks go by every name that clients have for them."""
    assert parse_limits({}) == Limits()
    assert parse_limits({"gpu": "ALL"}) == parse_limits({"nvidia.com/gpu": "all"}) == Limits(gpus=ALL_GPUS)
    assert parse_limits({"cpu": "1", "memory": "8M", "gpu": "2"}) == Limits(10**9, 8_000_000, 2)
    for name in ("ephemeral-storage", "storage", "disk"):
        assert parse_limits({name: "1Gi"}) == Limits(disk=1024**3)


def test_what_sdks_send_for_whoever_names_none() -> None:
    """Their default is a limit like any other."""
    assert parse_limits(UNASKED) == Limits(10**9, 2 * 1024**3)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"hugepages-2Mi": "1Gi"}, "resourceLimits: 'hugepages-2Mi' is not known"),
        ({"CPU": "1"}, "resourceLimits: 'CPU' is not known"),
        ({"gpu": "1", "nvidia.com/gpu": "2"}, "gpu and nvidia.com/gpu are the same"),
        ({"disk": "1Gi", "storage": "2Gi"}, "storage and disk are the same"),
        ({"nvidia.com/gpu": "none"}, "resourceLimits.nvidia.com/gpu"),
        ({"ephemeral-storage": "much"}, "resourceLimits.ephemeral-storage"),
    ],
)
def test_a_limit_that_means_nothing_is_refused_by_name(limits: dict[str, str], told: str) -> None:
    """Dropped without a word it would be taken for one that holds."""
    with pytest.raises(Invalid) as raised:
        parse_limits(limits)
    assert told in raised.value.message


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        ({"cpu": "0.000001"}, {"cpu": "10m"}),
        ({"cpu": "9m"}, {"cpu": "0.01"}),
        ({"memory": "6143Ki"}, {"memory": "6Mi"}),
        ({"disk": "1023Ki"}, {"disk": "1Mi"}),
    ],
)
def test_a_limit_too_small_to_be_held_is_refused_by_name(limits: dict[str, str], least: dict[str, str]) -> None:
    """The kernel would round it to none, or refuse it in words of its own; the least of each kind is taken."""
    [name] = limits
    with pytest.raises(Invalid, match=f"^resourceLimits.{name}: .* is too little to be held; the least is"):
        parse_limits(limits)
    assert parse_limits(least) != Limits()


@pytest.mark.parametrize(
    ("requests", "limits", "told"),
    [
        ({"memory": "1Mi"}, {}, "resourceRequests.memory: '1Mi' is too little"),
        ({"gpu": "1"}, {}, "resourceRequests.gpu: must be what resourceLimits.gpu says"),
        ({"nvidia.com/gpu": "1"}, {"gpu": "2"}, "resourceRequests.nvidia.com/gpu"),
        ({"ephemeral-storage": "1Gi"}, {"disk": "2Gi"}, "resourceRequests.ephemeral-storage: no disk can be set aside"),
        ({"pods": "1"}, {}, "resourceRequests: 'pods' is not known"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_by_name(
    requests: dict[str, str], limits: dict[str, str], told: str
) -> None:
    """As a limit is."""
    with pytest.raises(Invalid) as raised:
        parse_requests(requests, parse_limits(limits))
    assert told in raised.value.message


def test_a_request_for_the_devices_of_the_limit() -> None:
    """As clusters ask for it: both the same."""
    assert parse_requests({"nvidia.com/gpu": "2"}, parse_limits({"gpu": "2"})).gpus == 2


@given(st.text(max_size=12))
def test_any_text_is_a_positive_amount_or_refused(text: str) -> None:
    """Nothing else comes out, whatever goes in."""
    for parse in (byte_count, cpu_nanos):
        try:
            assert 0 < parse(text, "x") < 2**63
        except Invalid:
            continue
