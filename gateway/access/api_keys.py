"""The keys of our own API, as sandbox routes meet them: who holds one may pass where that is asked for, how often
somebody may guess, and that none of them ever travels on to a sandbox.

A key may sit in any header, alone or behind a scheme (`Authorization: bearer  KEY`): a line whose value is a key is
taken out whole, whatever it is called.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Generic, TypeVar

from gateway.access.token_bucket import TokenBuckets

GUESSES: Final = 20
"""Burst of wrong keys from one address; after that one a second."""
REMEMBERED: Final = 10_000
"""Addresses that are remembered; the one that has failed, or proved a key, least recently is forgotten first."""

_IPV6_SITE: Final = 64
_BEARER: Final = b"bearer"


_V = TypeVar("_V")
_DIGEST: Final = 32


class KeyIndex(Generic[_V]):
    """Finds what belongs to a key in a time that neither the keys nor their number show in.

    Keys are looked up by a digest with a salt that nobody else has, so where a guess differs from a key decides nothing
    that takes time. Two keys with one digest do not happen.
    """

    __slots__ = ("_known", "_salt")

    def __init__(self, keys: Iterable[tuple[bytes, _V]] = ()) -> None:
        self._salt = secrets.token_bytes(_DIGEST)
        self._known = {self._digest(key): value for key, value in keys}

    def find(self, presented: bytes) -> _V | None:
        """What belongs to the key that was presented, or None."""
        return self._known.get(self._digest(presented))

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=_DIGEST).digest()


class ApiKeys:
    """The keys that are valid now; those in `entering` open the proxy path where it asks for a key.

    `viewers` are the names of keys that see only what was made with them.
    """

    __slots__ = ("_entering", "_keys", "_lines", "_opens", "_viewers")

    def __init__(
        self,
        keys: Iterable[bytes] = (),
        entering: Iterable[bytes] | None = None,
        viewers: Mapping[bytes, str] | None = None,
    ) -> None:
        self._keys = tuple(keys)
        self._opens = frozenset(self._keys if entering is None else entering)
        self._entering = KeyIndex((key, key) for key in self._opens)
        self._viewers = dict(viewers or {})
        values = b"|".join(re.escape(key) for key in self._keys)
        self._lines = re.compile(rb"(?m)^[^:\r\n]+:[ \t]*(?:[^ \t\r\n]+[ \t]+)?(?:%b)[ \t]*\r\n" % values)

    def without(self, lines: bytes) -> bytes:
        """Header lines (each with its end) but for those whose value is one of the keys."""
        # The search is not constant in time; its outcome is not observable, and a match only removes a line.
        if any(key in lines for key in self._keys):
            return self._lines.sub(b"", lines)
        return lines

    def opening(self, presented: Iterable[bytes | None]) -> bytes | None:
        """The key that opens the proxy path among what was presented, or None; takes the same time for every guess."""
        found: bytes | None = None
        for value in presented:
            if value is not None:
                found = self._entering.find(value) or found
        return found

    def revoked(self, other: ApiKeys) -> frozenset[bytes]:
        """The keys that open less, or nothing, once `other` stands in the place of these."""
        return frozenset(key for key in self._opens if key not in other._opens or self.viewer(key) != other.viewer(key))

    def viewer(self, key: bytes) -> str | None:
        """The name of a key that sees only what was made with it; None for one that sees everything."""
        return self._viewers.get(key)


def bearer(authorization: bytes | None) -> bytes | None:
    """The key in an Authorization value, or None where it is of another scheme."""
    scheme, _, rest = (authorization or b"").partition(b" ")
    return rest.strip(b" \t") if scheme.lower() == _BEARER else None


class KeyAttempts:
    """How many wrong keys each address has sent: a bucket of guesses that refills.

    Whoever has proved a key from an address goes on using that key there, however much is guessed beside it: behind
    one address there may be many people, and one of them must not lock the others out. From everywhere else a key is
    not looked at while the bucket is empty, so that guessing from outside stays slow whatever the keys are.
    """

    __slots__ = ("_proved", "_spent")

    def __init__(self, burst: int = GUESSES, refill: float = 1.0) -> None:
        """`refill` is the seconds until one more guess is allowed."""
        self._spent: TokenBuckets[str] = TokenBuckets(burst, 1.0 / refill, REMEMBERED)
        self._proved: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def attempt(self, address: str, key: bytes | None, now: float) -> float:
        """Notes an attempt from `address` with a valid key, or None for a wrong one; `now` in seconds of any clock.

        Returns 0.0 when the attempt is to be taken for what it is, else the seconds until one is looked at again.
        """
        source = source_of(address)
        if key is not None and (source, key) in self._proved:
            self._proved.move_to_end((source, key))
            return 0.0
        bucket = self._spent.find(source, now)
        if bucket is not None and (wait := bucket.wait(now)):
            return wait
        if key is None:
            self._spent.get(source, now).take(now)
        else:
            self._proved[source, key] = None
            self._proved.move_to_end((source, key))
            if len(self._proved) > REMEMBERED:
                self._proved.popitem(last=False)
        return 0.0


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """Who an address counts as: itself, and for IPv6 the network a site is given, whose addresses cost nothing."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_SITE), strict=False))
