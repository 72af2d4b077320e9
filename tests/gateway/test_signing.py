"""Signed addresses: the platform's published vectors, and what breaks a signature."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addressing.routing import format_label
from gateway.signing import (
    MAX_DEPTH,
    MAX_EXPIRES,
    Signature,
    from_base36,
    is_long,
    key_id,
    sign,
    sign_long,
    to_base36,
    verify,
    verify_long,
)

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


SECRET = b"ingress-test-secret"
LONG_VECTORS: list[tuple[tuple[str, ...], str, str]] = [
    ((), "/", "gamma-7777-x2qxvk-2k001lbofou4luro9z3ts950pqliv"),
    (("GET",), "/", "gamma-7777-x2qxvk-2k102ht457acsk1ozgujprc5cy2dr"),
    (("GET", "POST", "DELETE"), "/api/files", "gamma-7777-x2qxvk-2kl2db0if90583bbvxkk3ucnym823"),
]


def long(methods: tuple[str, ...] = (), path: str = "/") -> Signature:
    return sign_long("k", SECRET, "gamma", 7777, 2000000000, methods=methods, path=path)


def good(signature: Signature, method: bytes | None = b"GET", target: bytes | None = b"/") -> bool:
    return verify_long(SECRET, b"gamma", 7777, signature, method, target)


@pytest.mark.parametrize(("methods", "path", "label"), LONG_VECTORS)
def test_long_vectors(methods: tuple[str, ...], path: str, label: str) -> None:
    """The long signature never changes, or addresses that were handed out stop working."""
    assert format_label("gamma", 7777, long(methods, path)) == label


def test_kinds_are_told_apart() -> None:
    """The length says which kind it is and where the key id stands."""
    short = sign("k", SECRET, "gamma", 7777, 2000000000)
    assert (is_long(short), key_id(short)) == (False, b"k")
    assert (is_long(long()), key_id(long())) == (True, b"k")


def test_long_fits_a_host_name_with_a_short_id() -> None:
    """With an id of up to 19 characters a long signature fits the 63 characters of a label."""
    signature = sign_long("k", SECRET, "x" * 19, 65535, 2**32)
    assert len(format_label("x" * 19, 65535, signature)) == 63


METHODS = [
    ((), b"PROPFIND", True),
    ((), None, True),
    (("GET",), b"GET", True),
    (("GET",), b"HEAD", True),
    (("GET",), b"POST", False),
    (("GET",), b"get", False),
    (("GET",), None, False),
    (("PUT",), b"PATCH", True),
    (("POST", "DELETE"), b"DELETE", True),
    (("POST", "DELETE"), b"GET", False),
    (("OPTIONS",), b"PROPFIND", False),
]


@pytest.mark.parametrize(("methods", "method", "expected"), METHODS)
def test_methods(methods: tuple[str, ...], method: bytes | None, expected: bool) -> None:
    """A signature for some methods is good for those, and for none that is not known."""
    assert good(long(methods), method) is expected


PATHS = [
    ("/", b"/anything/../at//all?x", True),
    ("/", None, True),
    ("/api", b"/api", True),
    ("/api", b"/api/", True),
    ("/api/", b"/api/x?y=/../z", True),
    ("/api", b"/api?x", True),
    ("/api", b"/apis", False),
    ("/api", b"/", False),
    ("/api", b"/x/api", False),
    ("/api", b"/API", False),
    ("/api", None, False),
    ("/api", b"*", False),
    ("/api", b"/%61pi", False),
    ("/api", b"/api/../secret", False),
    ("/api", b"/api/..", False),
    ("/api", b"/api/./x", False),
    ("/api", b"/api/%2e%2e/secret", False),
    ("/api", b"/api/%2E./secret", False),
    ("/api", b"/api%2f..%2fsecret", False),
    ("/api", b"/api/..;x/secret", False),
    ("/api", b"/api;x/secret", False),
    ("/api", b"/api/..\\secret", False),
    ("/api", b"/api/%5csecret", False),
    ("/api", b"/api//secret", False),
    ("/api", b"//api", False),
    ("/api", b"/api/x%00", False),
    ("/api", b"/api/..x/.y/z.", True),
    ("/a/b", b"/a/b/c", True),
    ("/a/b", b"/a/bc", False),
    ("/a/b", b"/a", False),
    ("/caf%C3%A9", b"/caf%C3%A9/x", True),
]


@pytest.mark.parametrize(("path", "target", "expected"), PATHS)
def test_paths(path: str, target: bytes | None, expected: bool) -> None:
    """A signature for a path is good for what lies under it, in every reading a program may have of the target."""
    assert good(long(path=path), target=target) is expected


@pytest.mark.parametrize("at", range(29))
def test_every_character_of_a_long_signature_counts(at: int) -> None:
    """Changing any character, even those that say what it is bound to, spoils it."""
    signature = long(("GET",), "/api")
    changed = bytearray(signature.value)
    changed[at] = ord("x") if changed[at] != ord("x") else ord("y")
    other = Signature(signature.expires, bytes(changed))
    if at in (0, 1):
        assert other.value[1:2] != key_id(signature) or at == 0
    else:
        assert not good(other, b"GET", b"/api/x/y/z")


@pytest.mark.parametrize(
    "path", ["api", "/a/../b", "/a//b", "/a%2fb", "/a?b", "/a#b", "/a;b", "/./a", "/a" * (MAX_DEPTH + 1)]
)
def test_paths_that_cannot_be_bound(path: str) -> None:
    """A path that two programs could read differently cannot be signed."""
    with pytest.raises(ValueError, match="path"):
        long(path=path)


@pytest.mark.parametrize("method", ["PROPFIND", "get", ""])
def test_methods_that_cannot_be_bound(method: str) -> None:
    """Only common methods can be named in a signature."""
    with pytest.raises(ValueError, match="cannot be bound"):
        long((method,))


@given(st.binary(max_size=200), st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True))
def test_long_signature_is_hmac(secret: bytes, id: str) -> None:
    """The code is the beginning of HMAC-SHA-256 as the standard library computes it, for keys of any length."""
    signature = sign_long("k", secret, id, 80, 1)
    mac = hmac.digest(secret, b"v2\nlong\n%b\n80\n1\n00\n\n" % id.encode(), "sha256")
    assert int(signature.value[4:], 36) == int.from_bytes(mac[:16], "big")


@given(
    st.lists(st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])),
    st.lists(st.from_regex(r"[a-z0-9_~-]{1,5}", fullmatch=True), max_size=MAX_DEPTH),
    st.sampled_from(["", "/", "/more", "?q=/../x"]),
)
def test_long_round_trip(methods: list[str], segments: list[str], rest: str) -> None:
    """What was signed is good for each of its methods under its path."""
    path = "/" + "/".join(segments)
    signature = long(tuple(methods), path)
    assert len(signature.value) == 29
    target = (path.removesuffix("/") + rest) or "/"
    for method in methods or ["LOCK"]:
        assert good(signature, method.encode(), target.encode())
