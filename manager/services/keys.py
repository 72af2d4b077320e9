"""API keys: who a caller is, what it may do, and how often it may guess."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from manager.domain.errors import TooMany
from manager.settings.model import Settings

DEFAULT_NAME = "default"
"""The name of the one key in `server.api_key`."""

GUESSES = 20
"""Wrong keys one address may send in a row; after that one a second."""

THROTTLED = "TOO_MANY_FAILED_ATTEMPTS"

_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: `read_only` ones see everything but credentials and change nothing."""

    name: str
    secret: str = field(repr=False)
    read_only: bool = False
    max_sandboxes: int | None = None


class ApiKeys:
    """The keys that are valid now."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """These keys are valid from now on, others no longer."""
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def secrets(self) -> list[str]:
        """The keys themselves, for whoever must keep them from going elsewhere."""
        return [key.secret for key in self._keys]

    def find(self, presented: str) -> ApiKey | None:
        """The key that was presented, or None; takes the same time wherever it differs and whichever it is."""
        given = presented.encode("utf-8", "surrogateescape")
        found: ApiKey | None = None
        for key in self._keys:
            if hmac.compare_digest(given, key.secret.encode()):
                found = key
        return found

    def named(self, name: str) -> ApiKey | None:
        """The key of that name, or None."""
        return next((key for key in self._keys if key.name == name), None)


def keys_of(settings: Settings) -> list[ApiKey]:
    """The keys of a configuration."""
    server = settings.server
    named = [
        ApiKey(item.name, item.key.get_secret_value(), item.scope == "read", item.max_sandboxes)
        for item in server.api_keys
    ]
    alone = server.api_key.get_secret_value() if server.api_key is not None else ""
    return [ApiKey(DEFAULT_NAME, alone), *named] if alone else named


class Origins:
    """The origins whose pages may call a server that asks for a key; `*` is any."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def replace(self, allowed: Iterable[str]) -> None:
        """These are allowed from now on."""
        self._allowed = frozenset(allowed)

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        return "*" in self._allowed or origin.lower() in self._allowed


class Guesses:
    """How many wrong keys each address has sent: a bucket of guesses that refills by one a second."""

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str, now: float) -> None:
        """Raises TooMany when the address has no guess left; `now` in seconds of any steady clock."""
        if self._left(address, now) < 1:
            raise TooMany(
                THROTTLED, "Too many wrong API keys came from your address. Wait a little, then send the right one.",
                retry_after=2,
            )  # fmt: skip

    def failed(self, address: str, now: float) -> None:
        """The address has sent a wrong key."""
        self._spent[address] = (self._left(address, now) - 1, now)
        self._spent.move_to_end(address)
        if len(self._spent) > _ADDRESSES:
            self._spent.popitem(last=False)

    def _left(self, address: str, now: float) -> float:
        left, when = self._spent.get(address, (float(GUESSES), now))
        return min(float(GUESSES), left + now - when)
