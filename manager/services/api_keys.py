"""API keys: who a caller is and what it may do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.access.api_keys import KeyIndex
from manager.settings.model import Settings

DEFAULT_NAME = "default"
"""The name of the one key in `server.api_key`."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: `read_only` ones see everything but credentials and change nothing.

    `own_only` ones see and change what was made with them, and nothing else.
    """

    name: str
    secret: str = field(repr=False)
    read_only: bool = False
    max_sandboxes: int | None = None
    own_only: bool = False


class ApiKeys:
    """The keys that are valid now."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self.replace(keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """These keys are valid from now on, others no longer."""
        self._keys = tuple(keys)
        self._by_secret = KeyIndex((key.secret.encode(), key) for key in self._keys)
        self._by_name = {key.name: key for key in self._keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys)

    def find(self, presented: str) -> ApiKey | None:
        """The key that was presented, or None; takes the same time whichever keys there are, and however many."""
        return self._by_secret.find(presented.encode("utf-8", "surrogateescape"))

    def named(self, name: str) -> ApiKey | None:
        """The key of that name, or None."""
        return self._by_name.get(name)

    def still_valid(self, key: ApiKey | None) -> bool:
        """Whether a caller authenticated by this key, or anonymous, would still get the same identity now."""
        return not self._keys if key is None else self._by_name.get(key.name) == key


def keys_of(settings: Settings) -> list[ApiKey]:
    """The keys of a configuration."""
    server = settings.server
    named = [
        ApiKey(item.name, item.key.get_secret_value(), item.scope == "read", item.max_sandboxes, item.scope == "own")
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
