"""Signed addresses: bearer credentials for one port of one sandbox until they expire.

Two kinds of signature travel in the same place of an address and are told apart by their length.

    short   8 hexadecimal digits, key id              the platform's own: 32 bits of SHA-256 over the length-prefixed
                                                      key and a canonical text of sandbox, port and expiry
    long    "2", key id, methods, depth, 25 digits    128 bits of HMAC-SHA-256; may be bound to methods and to a path

A long signature says itself what it is bound to, so that checking it needs nothing but the request: `methods` is a set
of groups of methods as one base 36 digit (0: any), `depth` says how many leading segments of the path are signed
(0: none). A path prefix is compared as it is written. Since an application may read `/a/../b`, `/a%2f..%2fb` or `/a//b`
in its own way, a signature with a path lets no target in whose path could be read in two ways.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.http import paths

MAX_EXPIRES: Final = 2**64 - 1

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHORT_HEX: Final = 8
_VERSION: Final = b"2"
_LONG: Final = 29
_LONG_DIGITS: Final = 25
_MAC_BYTES: Final = 16
_UNBOUND: Final = b"00"
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
MAX_DEPTH: Final = 35
"""Most segments of a path that a signature can cover."""

_GROUPS: Final = ((b"GET", b"HEAD"), (b"OPTIONS",), (b"POST",), (b"PUT", b"PATCH"), (b"DELETE",))
_METHOD_BITS: Final = {method: 1 << bit for bit, group in enumerate(_GROUPS) for method in group}


@dataclass(frozen=True, slots=True)
class Signature:
    """The signed part of an address: expiry as base 36 epoch seconds, and the code with the id of its key."""

    expires: bytes
    value: bytes


def to_base36(number: int) -> bytes:
    """A non-negative number in lower-case base 36, without leading zeros."""
    if number < 0:
        raise ValueError(f"{number} is negative")
    digits = ""
    while number >= 36:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return (_DIGITS[number] + digits).encode()


def from_base36(text: bytes) -> int:
    """The number that `to_base36` wrote; raises ValueError for any other spelling of it."""
    number = int(text, 36)
    if to_base36(number) != text:
        raise ValueError(f"{text!r} is not base 36 in its canonical form")
    return number


def sign(key_id: str, secret: bytes, id: str, port: int, expires: int) -> Signature:
    """The short signature for one port of a sandbox until `expires`, in epoch seconds.

    Raises ValueError for a key id that is not one character of 0-9 a-z and for an expiry that does not fit 64 bits.
    """
    _check_arguments(key_id, expires)
    stamp = to_base36(expires)
    return Signature(stamp, _short(secret, id.encode(), port, stamp) + key_id.encode())


def sign_long(
    key_id: str,
    secret: bytes,
    id: str,
    port: int,
    expires: int,
    *,
    methods: Iterable[str] = (),
    path: str = "/",
) -> Signature:
    """A long signature, good for `methods` (all if none are given) on paths that start with the segments of `path`.

    HEAD goes with GET and PATCH with PUT. Raises ValueError for a method that cannot be bound, for a path that two
    programs could read differently or that has more than MAX_DEPTH segments, and as `sign` does.
    """
    _check_arguments(key_id, expires)
    groups, prefix = _method_set(methods), _path_prefix(path)
    stamp = to_base36(expires)
    bound = to_base36(groups) + to_base36(prefix.count(b"/"))
    mac = _long(secret, id.encode(), port, stamp, bound, prefix)
    code = to_base36(int.from_bytes(mac, "big")).rjust(_LONG_DIGITS, b"0")
    return Signature(stamp, _VERSION + key_id.encode() + bound + code)


def is_long(signature: Signature) -> bool:
    """Whether the signature is too long to be guessed."""
    return len(signature.value) == _LONG


def key_id(signature: Signature) -> bytes:
    """The id of the key that the signature says it was made with."""
    return signature.value[1:2] if is_long(signature) else signature.value[-1:]


def verify_long(
    secret: bytes, id: bytes, port: int, signature: Signature, method: bytes | None, target: bytes | None
) -> bool:
    """Whether a long signature was made with `secret` for this method and this target.

    None for either stands for "not known" and fails where the signature is bound to it.
    """
    bound = signature.value[2:4]
    prefix = b"" if bound == _UNBOUND else _bound_prefix(bound, method, target)
    if prefix is None:
        return False
    code = int(signature.value[4:], 36)
    if code >> (8 * _MAC_BYTES):
        return False  # 25 digits can say more than 128 bits
    mac = _long(secret, id, port, signature.expires, bound, prefix)
    return hmac.compare_digest(mac, code.to_bytes(_MAC_BYTES, "big"))


def verify(secret: bytes, id: bytes, port: int, signature: Signature) -> bool:
    """Whether the short signature was made with `secret`; compares in constant time, looks at no clock."""
    return hmac.compare_digest(_short(secret, id, port, signature.expires), signature.value[:-1])


def _short(secret: bytes, id: bytes, port: int, expires: bytes) -> bytes:
    text = b"v1\nshort\n%b\n%d\n%b\n" % (id, port, expires)
    framed = b"%b%b%b%b" % (len(secret).to_bytes(4, "big"), secret, len(text).to_bytes(4, "big"), text)
    return hashlib.sha256(framed).hexdigest()[:_SHORT_HEX].encode()


def _check_arguments(key_id: str, expires: int) -> None:
    if len(key_id) != 1 or key_id not in _DIGITS:
        raise ValueError(f"key id {key_id!r} is not one character of 0-9 a-z")
    if expires > MAX_EXPIRES:
        raise ValueError(f"expiry {expires} does not fit 64 bits")


def _method_set(methods: Iterable[str]) -> int:
    groups = 0
    for method in methods:
        bit = _METHOD_BITS.get(method.encode())
        if bit is None:
            raise ValueError(f"a signature cannot be bound to {method!r}, only to {b', '.join(_METHOD_BITS).decode()}")
        groups |= bit
    return groups


def _path_prefix(path: str) -> bytes:
    """The segments of `path` as they are signed: `/a/b` for `/a/b` and `/a/b/`, nothing for `/`."""
    prefix = paths.clean_prefix(path)
    if prefix.count(b"/") > MAX_DEPTH:
        raise ValueError(f"path {path!r} has more than {MAX_DEPTH} segments")
    return prefix


def _bound_prefix(bound: bytes, method: bytes | None, target: bytes | None) -> bytes | None:
    """The part of the target's path that was signed; None where the method or the path is not what it is bound to."""
    groups, depth = int(bound[:1], 36), int(bound[1:], 36)
    if groups and not groups & _METHOD_BITS.get(method or b"", 0):
        return None
    return paths.leading(target or b"", depth)


def _long(secret: bytes, id: bytes, port: int, expires: bytes, bound: bytes, prefix: bytes) -> bytes:
    text = b"v2\nlong\n%b\n%d\n%b\n%b\n%b\n" % (id, port, expires, bound, prefix)
    inner, outer = _keyed(secret)
    inner, outer = inner.copy(), outer.copy()
    inner.update(text)
    outer.update(inner.digest())
    return outer.digest()[:_MAC_BYTES]


@lru_cache(maxsize=64)
def _keyed(secret: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Both halves of HMAC-SHA-256 (RFC 2104) with the key taken in: `hmac` takes it in anew each time, at twice
    the cost."""
    key = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))
