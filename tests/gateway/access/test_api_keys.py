"""Keys of our own API on their way to a sandbox: taken out wherever they sit, and not guessed without end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.api_keys import GUESSES, REMEMBERED, ApiKeys, KeyAttempts, KeyIndex, bearer, source_of
from tests.gateway.harness import ADDRESS, World

KEY, OTHER = b"s3cret+key(1)", b"s3cret+key(1)more"
KEYS = ApiKeys([KEY, OTHER])
PLAIN = b"Host: x\r\nAccept: */*\r\n"
TAKEN = [
    b"X-Api-Key: s3cret+key(1)\r\n",
    b"x-api-key:s3cret+key(1)more \t\r\n",
    b"Authorization: Bearer s3cret+key(1)\r\n",
    b"authorization: bearer  s3cret+key(1)more\r\n",
    b"Authorization: Basic abc\r\nAuthorization: BEARER\ts3cret+key(1)\r\n",
]
LEFT = [
    b"Authorization: Bearer somebody-else's\r\n",
    b"X-Words: s3cret+key(1) and more\r\n",
    b"X-Part: s3cret+key(1)mo\r\n",
    b"Cookie: a=s3cret+key(1)\r\n",
]


@pytest.mark.parametrize("line", TAKEN)
def test_lines_that_hold_a_key(line: bytes) -> None:
    """Whatever the header is called and however the scheme is written."""
    left = KEYS.without(PLAIN + line + b"X-Last: 1\r\n")
    assert KEY not in left
    assert left.startswith(PLAIN)
    assert left.endswith(b"X-Last: 1\r\n")


@pytest.mark.parametrize("line", LEFT)
def test_lines_that_do_not(line: bytes) -> None:
    """A value that is more or less than a key is somebody else's business."""
    assert KEYS.without(PLAIN + line) == PLAIN + line


@given(st.lists(st.sampled_from([*TAKEN, *LEFT, PLAIN]), max_size=8))
def test_any_mixture(lines: list[bytes]) -> None:
    """What holds no key stays, in its order."""
    expected = b"".join(line for line in lines if line not in TAKEN)
    assert KEYS.without(b"".join(lines)).replace(b"Authorization: Basic abc\r\n", b"") == expected


def test_no_keys() -> None:
    """Where nobody has one nothing is taken out, and nothing opens."""
    assert ApiKeys().without(PLAIN + b"X-Empty: \r\n") == PLAIN + b"X-Empty: \r\n"
    assert ApiKeys().opening([b"", None]) is None


@pytest.mark.parametrize(
    ("value", "key"),
    [(b"Bearer k", b"k"), (b"bearer  k ", b"k"), (b"Basic k", None), (b"Bearer", b""), (None, None), (b"k", None)],
)
def test_bearer(value: bytes | None, key: bytes | None) -> None:
    """Schemes are written in any case."""
    assert bearer(value) == key


def test_keys_that_change() -> None:
    """A head that was sent before is made anew: what has become a key meanwhile goes no further."""
    world = World()
    world.stock()
    client, request = world.connect(), b"GET / HTTP/1.1\r\nHost: x\r\nX-Any: later\r\n" + ADDRESS + b"\r\n"
    client.arrive(request)
    assert b"later" in world.dialled[0].take()
    world.dialled[0].arrive(b"HTTP/1.1 204 No Content\r\n\r\n")
    world.plane.take_keys(ApiKeys([b"later"]))
    client.arrive(request)
    sent = world.dialled[0].take()
    assert sent.startswith(b"GET / ")
    assert b"later" not in sent


def test_guesses_come_back_with_time() -> None:
    """One a second, up to the whole bucket."""
    guesses = KeyAttempts()
    assert [guesses.attempt("a", None, 0.0) for _ in range(GUESSES)] == [0.0] * GUESSES
    assert guesses.attempt("a", KEY, 0.5) == pytest.approx(0.5)
    assert guesses.attempt("a", KEY, 1.0) == 0.0
    assert guesses.attempt("b", None, 0.5) == 0.0


def test_proved_keys_are_not_locked_out() -> None:
    """Each for itself, and from where it was proved only."""
    guesses = KeyAttempts()
    guesses.attempt("a", KEY, 0.0)
    for _ in range(GUESSES):
        guesses.attempt("a", None, 0.0)
        guesses.attempt("b", None, 0.0)
    assert guesses.attempt("a", KEY, 0.0) == 0.0
    assert guesses.attempt("a", OTHER, 0.0) > 0
    assert guesses.attempt("b", KEY, 0.0) > 0


def test_guesses_take_bounded_memory() -> None:
    """Addresses and proofs that are not heard of any more are forgotten."""
    guesses = KeyAttempts()
    for number in range(REMEMBERED + 10):
        guesses.attempt(f"a{number}", None, 0.0)
        guesses.attempt(f"b{number}", KEY, 0.0)
    assert (len(guesses._spent), len(guesses._proved)) == (REMEMBERED, REMEMBERED)


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("unknown", "unknown"),
    ],
)
def test_sources(address: str, source: str) -> None:
    """An IPv6 site has more addresses than anybody can count, so they count as one."""
    assert source_of(address) == source


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_key_is_found_among_any_number(count: int) -> None:
    """By its digest alone: no key is compared with what was sent, so their number and likeness cost nothing."""
    index = KeyIndex((b"key-%d" % number, number) for number in range(count))
    assert [index.find(b"key-%d" % number) for number in range(count)] == list(range(count))
    for guess in (b"", b"key-", b"key-0 ", b"KEY-0", b"key-%d" % count):
        assert index.find(guess) is None


def test_digests_cannot_be_foreseen() -> None:
    """Each index has a salt of its own: what takes time with one tells nothing of the next."""
    one, other = KeyIndex([(b"key", 1)]), KeyIndex([(b"key", 1)])
    assert one._known.keys() != other._known.keys()
