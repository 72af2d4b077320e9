"""Checks a request's token or signature against its sandbox's rule; which credentials are stripped."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway import signing
from gateway.access.throttle import FailureThrottle
from gateway.errors import AccessDenied, NoKeys, TooManyFailures
from gateway.signing import Signature


@dataclass(frozen=True, slots=True)
class AccessRule:
    """What a secured sandbox asks of a caller: its static token, as sent in `OpenSandbox-Secure-Access`."""

    token: bytes = field(repr=False)


class Keyring:
    """The secrets that signed addresses are made with, by their one-character id."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[bytes, bytes] | None = None) -> None:
        self._keys = dict(keys or {})

    def changed(self, other: Keyring) -> frozenset[bytes]:
        """The ids of keys that `other` no longer has, or has with another secret."""
        return frozenset(key_id for key_id, secret in self._keys.items() if other.get(key_id) != secret)

    def get(self, key_id: bytes) -> bytes | None:
        """The secret with this id, or None."""
        return self._keys.get(key_id)

    def __bool__(self) -> bool:
        return bool(self._keys)


def check(
    rule: AccessRule | None,
    keyring: Keyring,
    id: bytes,
    port: int,
    header: bytes | None,
    signature: Signature | None,
    now: float,
    *,
    method: bytes | None = None,
    target: bytes | None = None,
    throttle: FailureThrottle | None = None,
    cookies: Sequence[Signature] = (),
) -> Signature | None:
    """Lets a request pass or raises `AccessDenied`, `NoKeys` or `TooManyFailures`; `now` is in epoch seconds.

    The header decides alone when it is there, even empty: a wrong token is not saved by a good signature. Then the
    signature of the address decides, and only without one the `cookies`, of which one has to be good. A signature that
    is bound to methods or a path is refused where `method` or `target` (as it goes to the sandbox) is not given.

    Returns the signature that let it in, if one did.
    """
    if rule is None:
        return None
    if header is not None:
        presented = header.strip(b" \t")
        if not presented or not hmac.compare_digest(presented, rule.token):
            raise AccessDenied(_WRONG_HEADER)
        return None
    if signature is not None:
        _check_signature(keyring, id, port, signature, now, method, target, throttle)
        return signature
    refusal: AccessDenied | TooManyFailures = AccessDenied()
    for candidate in cookies:
        # A page that stays open when its key is taken away goes on asking: that is nobody's guess, and counting it
        # would lock out those who hold new links.
        known = keyring.get(signing.key_id(candidate)) is not None
        try:
            _check_signature(keyring, id, port, candidate, now, method, target, throttle if known else None)
        except (AccessDenied, TooManyFailures) as error:
            refusal = error
        else:
            return candidate
    raise refusal


def _check_signature(
    keyring: Keyring,
    id: bytes,
    port: int,
    signature: Signature,
    now: float,
    method: bytes | None,
    target: bytes | None,
    throttle: FailureThrottle | None,
) -> None:
    if not keyring:
        raise NoKeys
    if now > int(signature.expires, 36):
        raise AccessDenied(_EXPIRED)
    secret = keyring.get(signing.key_id(signature))
    if signing.is_long(signature):
        if secret is None or not signing.verify_long(secret, id, port, signature, method, target):
            raise AccessDenied(_BAD_SIGNATURE)
        return
    _check_short(secret, id, port, signature, now, throttle)


def _check_short(
    secret: bytes | None, id: bytes, port: int, signature: Signature, now: float, throttle: FailureThrottle | None
) -> None:
    if throttle is not None and (wait := throttle.wait(id, now)):
        raise TooManyFailures(retry_after=wait)
    if secret is None or not signing.verify(secret, id, port, signature):
        if throttle is not None:
            throttle.failed(id, now)
        raise AccessDenied(_BAD_SIGNATURE)


_WRONG_HEADER = "The OpenSandbox-Secure-Access header does not hold the token of this sandbox. Ask its owner for it."
_EXPIRED = "This signed address has expired. Ask for a new one."
_BAD_SIGNATURE = "The signature of this address is not valid. Use the whole address, or ask for a new one."
