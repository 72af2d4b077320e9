"""Signed addresses: who holds one may use one port of one sandbox until it expires.

The short signature is the platform's own: SHA-256 over the length-prefixed key and a canonical text, of which the
first 32 bits travel as eight hex digits, with the id of the key as ninth character. It covers the sandbox, the port
and the expiry, neither method nor path.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from gateway.routing import Signature

MAX_EXPIRES: Final = 2**64 - 1

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHORT_HEX: Final = 8


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
    if len(key_id) != 1 or key_id not in _DIGITS:
        raise ValueError(f"key id {key_id!r} is not one character of 0-9 a-z")
    if expires > MAX_EXPIRES:
        raise ValueError(f"expiry {expires} does not fit 64 bits")
    stamp = to_base36(expires)
    return Signature(stamp, _short(secret, id.encode(), port, stamp) + key_id.encode())


def verify(secret: bytes, id: bytes, port: int, signature: Signature) -> bool:
    """Whether the short signature was made with `secret`; compares in constant time, looks at no clock."""
    return hmac.compare_digest(_short(secret, id, port, signature.expires), signature.value[:-1])


def _short(secret: bytes, id: bytes, port: int, expires: bytes) -> bytes:
    text = b"v1\nshort\n%b\n%d\n%b\n" % (id, port, expires)
    framed = b"%b%b%b%b" % (len(secret).to_bytes(4, "big"), secret, len(text).to_bytes(4, "big"), text)
    return hashlib.sha256(framed).hexdigest()[:_SHORT_HEX].encode()
