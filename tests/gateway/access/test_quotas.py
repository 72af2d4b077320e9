"""Limits of one sandbox: reading them, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.quotas import Quota, QuotaRules, parse, write
from gateway.errors import (
    BodyTooLarge,
    GatewayError,
    MethodNotAllowed,
    PathNotAllowed,
    PortNotAllowed,
    RateLimited,
    SandboxBusy,
)

START = 1000.0

TEXTS = {
    "access.limit.requests.per.second": "2.5",
    "access.limit.requests.burst": "10",
    "access.limit.connections": "5",
    "access.limit.bytes.per.second": "2048",
    "access.limit.body.bytes": "1000",
    "access.limit.stream.seconds": "60",
    "access.limit.ports": "80, 3000-3010",
    "access.limit.methods": "GET,M-SEARCH",
    "access.limit.paths": "/api, /static/",
}
RULES = QuotaRules(
    requests_per_second=2.5,
    requests_burst=10,
    connections=5,
    bytes_per_second=2048,
    body_bytes=1000,
    stream_seconds=60,
    ports=((80, 80), (3000, 3010)),
    methods=frozenset({b"GET", b"M-SEARCH"}),
    paths=(b"/api", b"/static"),
)


def test_parse() -> None:
    """Every limit is read from its extension."""
    assert parse(TEXTS) == RULES


def test_no_rules() -> None:
    """A sandbox without limits has no rules, whatever else it has."""
    assert parse({"access.renew.extend.seconds": "300", "other": "x"}) is None


@pytest.mark.parametrize("key", TEXTS)
def test_each_alone(key: str) -> None:
    """Each limit may stand alone, except the burst, which has a rate."""
    if key.endswith("burst"):
        with pytest.raises(ValueError, match=r"needs access\.limit\.requests\.per\.second"):
            parse({key: TEXTS[key]})
    else:
        assert parse({key: TEXTS[key]}) is not None


BAD = [
    ("access.limit.requests.per.second", ["", "0", "-1", "1e3", "nan", "inf", "x", "1.2.3", "100001", "٣"]),
    ("access.limit.connections", ["", "0", "-1", "1.5", "x", "100001", " 5", "٣"]),
    ("access.limit.bytes.per.second", ["1023", "1.5"]),
    ("access.limit.ports", ["", "0", "65536", "80,", ",80", "80-", "-80", "90-80", "080-x", "80 81"]),
    ("access.limit.methods", ["", "get", "GET,", "GET POST", "GET,P0ST", "*"]),
    ("access.limit.paths", ["", "api", "/a,", "/a/../b", "/a?b"]),
    ("access.limit.unknown", ["1"]),
    ("access.limit.", ["1"]),
]


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in BAD for text in texts])
def test_bad_values(key: str, text: str) -> None:
    """A value that is not allowed is refused with its key."""
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        parse({key: text})


def test_too_many_entries() -> None:
    """Lists are short, since they are gone through at every request."""
    with pytest.raises(ValueError, match="1 to 32"):
        parse({"access.limit.ports": ",".join(map(str, range(1, 34)))})


@given(
    st.builds(
        QuotaRules,
        requests_per_second=st.integers(1, 10_000).map(float),
        requests_burst=st.integers(0, 100),
        connections=st.integers(0, 100),
        bytes_per_second=st.just(0) | st.integers(1024, 10**9),
        body_bytes=st.integers(0, 10**9),
        stream_seconds=st.integers(0, 1000),
        ports=st.lists(st.tuples(st.integers(1, 100), st.integers(100, 65535)), max_size=3).map(tuple),
        methods=st.frozensets(st.sampled_from([b"GET", b"POST", b"DELETE"])),
        paths=st.lists(st.sampled_from([b"", b"/a", b"/a/b"]), max_size=3).map(tuple),
    )
)
def test_round_trip(rules: QuotaRules) -> None:
    """What is written is read as the same rules."""
    assert parse(write(rules)) == rules


def ask(
    quota: Quota,
    *,
    port: int = 80,
    method: bytes = b"GET",
    target: bytes = b"/api/x",
    length: int = 0,
    opened: int = 0,
    now: float = START,
) -> type[GatewayError] | None:
    try:
        quota.admit(port, method, target, length, opened, now)
    except GatewayError as error:
        return type(error)
    return None


ASKED = [
    ({}, None),
    ({"port": 3000}, None),
    ({"port": 3010}, None),
    ({"port": 3011}, PortNotAllowed),
    ({"port": 81}, PortNotAllowed),
    ({"method": b"M-SEARCH"}, None),
    ({"method": b"POST"}, MethodNotAllowed),
    ({"method": b"get"}, MethodNotAllowed),
    ({"target": b"/static/x.js?v"}, None),
    ({"target": b"/api"}, None),
    ({"target": b"/apis"}, PathNotAllowed),
    ({"target": b"/"}, PathNotAllowed),
    ({"target": b"*"}, PathNotAllowed),
    ({"target": b"/api/../secret"}, PathNotAllowed),
    ({"target": b"/api/%2e%2e/secret"}, PathNotAllowed),
    ({"length": 1000}, None),
    ({"length": 1001}, BodyTooLarge),
    ({"length": -1}, None),
    ({"opened": 4}, None),
    ({"opened": 5}, SandboxBusy),
]


@pytest.mark.parametrize(("request_", "outcome"), ASKED)
def test_admit(request_: dict[str, object], outcome: type[GatewayError] | None) -> None:
    """Each rule refuses what it does not allow, with its own error."""
    assert ask(Quota(RULES, START), **request_) is outcome  # type: ignore[arg-type]


def test_root_allows_every_path() -> None:
    """`/` stands for all paths, also for those that can be read in two ways: there is nothing to get out of."""
    quota = Quota(QuotaRules(paths=(b"",)), START)
    assert ask(quota, target=b"/a/../b") is None
    assert ask(quota, target=b"*") is PathNotAllowed


def test_empty_rules_refuse_nothing() -> None:
    """No limit means no refusal."""
    quota = Quota(QuotaRules(), START)
    asked = [ask(quota, port=1, method=b"X", target=b"*", length=10**12, opened=10**6) for _ in range(100)]
    assert asked == [None] * 100
    assert quota.spend(10**12, START) == 0.0


def test_burst_and_rate() -> None:
    """A burst is free, then requests pass at the rate."""
    quota = Quota(QuotaRules(requests_per_second=2.0, requests_burst=5), START)
    assert [ask(quota) for _ in range(6)] == [None] * 5 + [RateLimited]
    assert ask(quota, now=START + 0.4) is RateLimited
    assert ask(quota, now=START + 0.5) is None
    assert ask(quota, now=START + 0.5) is RateLimited


def test_retry_after() -> None:
    """Who is refused is told when there will be room, in whole seconds."""
    quota = Quota(QuotaRules(requests_per_second=0.1, requests_burst=1), START)
    assert ask(quota) is None
    with pytest.raises(RateLimited) as refusal:
        quota.admit(80, b"GET", b"/", 0, 0, START + 4)
    assert refusal.value.retry_after == 6


def test_refused_requests_use_nothing_up() -> None:
    """A request that another rule refuses costs no part of the rate."""
    quota = Quota(QuotaRules(requests_per_second=1.0, ports=((80, 80),)), START)
    assert ask(quota, port=81) is PortNotAllowed
    assert ask(quota) is None


def test_idle_time_fills_no_more_than_the_burst() -> None:
    """However long nothing came, the burst stays what it is."""
    quota = Quota(QuotaRules(requests_per_second=10.0, requests_burst=2), START)
    assert [ask(quota, now=START + 3600) for _ in range(3)] == [None, None, RateLimited]


@given(st.lists(st.floats(0, 3), max_size=100))
def test_rate_is_kept(pauses: list[float]) -> None:
    """In any order of times no more pass than burst and rate allow."""
    quota, now, passed = Quota(QuotaRules(requests_per_second=2.0, requests_burst=3), START), START, 0
    for pause in pauses:
        now += pause
        passed += ask(quota, now=now) is None
    assert passed <= 3 + 2.0 * (now - START) + 1e-6


def test_bytes() -> None:
    """A second's worth of bytes passes at once; more makes readers wait as long as it takes at the rate."""
    quota = Quota(QuotaRules(bytes_per_second=1000), START)
    assert quota.spend(1000, START) == 0.0
    assert quota.spend(500, START) == pytest.approx(0.5)
    assert quota.spend(0, START + 0.5) == 0.0


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1)), max_size=60))
def test_byte_rate_is_kept(steps: list[tuple[int, float]]) -> None:
    """Whoever waits as long as told gets no more than a second's worth above the rate."""
    quota, now, total, last = Quota(QuotaRules(bytes_per_second=1000), START), START, 0, 0
    for count, pause in steps:
        now += quota.spend(count, now) + pause
        total, last = total + count, count
    assert total - last <= 1000 * (now - START) + 1000 + 1e-3


def test_clock_that_goes_back() -> None:
    """A clock that is set back lets nothing more through and never raises."""
    quota = Quota(QuotaRules(requests_per_second=1.0, bytes_per_second=1000), START)
    assert ask(quota) is None
    assert ask(quota, now=START - 100) is RateLimited
    assert quota.spend(2000, START - 100) == pytest.approx(1.0)
