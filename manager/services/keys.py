"""API keys: who a caller is and what it may do."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from manager.settings.model import Settings

DEFAULT_NAME = "default"
"""The name of the one key in `server.api_key`."""


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

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys)

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
