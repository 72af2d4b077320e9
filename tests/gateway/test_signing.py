"""Signed addresses: the platform's published vectors, and what breaks a signature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import Signature, format_label
from gateway.signing import MAX_EXPIRES, from_base36, sign, to_base36, verify

UUID = "72ac4884-17d2-4919-8e6a-da9c45ca92bf"

VECTORS = [
    ("k", b"ingress-test-secret", "gamma", 7777, 2000000000, "gamma-7777-x2qxvk-8df586d8k"),
    ("a", b"uri-mode-secret", "d-e", 3000, 4102444800, "d-e-3000-1vuhmo0-573b366ca"),
    ("z", b"test-secret-bytes", "my-sandbox", 9000, MAX_EXPIRES, "my-sandbox-9000-3w5e11264sgsf-ce06eeb8z"),
    ("a", b"0123456789abcdef0123456789abcdef", UUID, 44772, 2000000000, f"{UUID}-44772-x2qxvk-742674cfa"),
    ("0", b"k", "s", 1, 0, "s-1-0-dd8b701e0"),
    ("b", b"\x01\x02\x03", "sb", 65535, 1, "sb-65535-1-874b82c3b"),
    ("k", b"shared-secret", "sandbox-123", 44772, 1893456000, "sandbox-123-44772-vbbc00-8f1ac84ak"),
]

BASE36 = [
    (0, b"0"),
    (1, b"1"),
    (35, b"z"),
    (36, b"10"),
    (1295, b"zz"),
    (1296, b"100"),
    (1700000000, b"s44we8"),
    (2000000000, b"x2qxvk"),
    (2**32, b"1z141z4"),
    (2**63, b"1y2p0ij32e8e8"),
    (2**64 - 1, b"3w5e11264sgsf"),
]


@pytest.mark.parametrize(("key_id", "secret", "id", "port", "expires", "label"), VECTORS)
def test_vectors(key_id: str, secret: bytes, id: str, port: int, expires: int, label: str) -> None:
    """The short signature is the platform's own, byte for byte, and verifies."""
    signature = sign(key_id, secret, id, port, expires)
    assert format_label(id, port, signature) == label
    assert verify(secret, id.encode(), port, signature)


@pytest.mark.parametrize(("number", "text"), BASE36)
def test_base36(number: int, text: bytes) -> None:
    """Times are written in lower-case base 36 without leading zeros."""
    assert to_base36(number) == text
    assert from_base36(text) == number


@given(st.integers(0, MAX_EXPIRES))
def test_base36_round_trip(number: int) -> None:
    """Every number is read back as itself."""
    assert from_base36(to_base36(number)) == number


@pytest.mark.parametrize("text", [b"", b"00", b"01", b"A", b"-1", b"+1", b" 1", b"1_0", b"1.0"])
def test_other_spellings(text: bytes) -> None:
    """There is one spelling of each number."""
    with pytest.raises(ValueError):
        from_base36(text)


def test_negative_time() -> None:
    """A time before 1970 cannot be written."""
    with pytest.raises(ValueError, match="negative"):
        to_base36(-1)


CHANGED = [
    (b"other", b"gamma", 7777, Signature(b"x2qxvk", b"8df586d8k")),
    (b"ingress-test-secret", b"gamme", 7777, Signature(b"x2qxvk", b"8df586d8k")),
    (b"ingress-test-secret", b"gamma", 7778, Signature(b"x2qxvk", b"8df586d8k")),
    (b"ingress-test-secret", b"gamma", 7777, Signature(b"x2qxvl", b"8df586d8k")),
    (b"ingress-test-secret", b"gamma", 7777, Signature(b"x2qxvk", b"8df586d9k")),
    (b"ingress-test-secre", b"tgamma", 7777, Signature(b"x2qxvk", b"8df586d8k")),
]


@pytest.mark.parametrize(("secret", "id", "port", "signature"), CHANGED)
def test_every_part_is_covered(secret: bytes, id: bytes, port: int, signature: Signature) -> None:
    """Another secret, sandbox, port, expiry or code does not verify."""
    assert not verify(secret, id, port, signature)


@pytest.mark.parametrize("key_id", ["", "K", "ab", "-", "é"])
def test_key_ids(key_id: str) -> None:
    """A key id is one character of 0-9 a-z."""
    with pytest.raises(ValueError, match="key id"):
        sign(key_id, b"secret", "sb", 80, 1)


def test_expiry_fits_64_bits() -> None:
    """A later expiry could not be read back."""
    with pytest.raises(ValueError, match="64 bits"):
        sign("k", b"secret", "sb", 80, MAX_EXPIRES + 1)
