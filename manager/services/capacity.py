"""How many sandboxes there may be: in all, and per API key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from manager.domain.errors import TooMany
from manager.services.inventory import Change, Inventory
from manager.services.keys import DEFAULT_NAME, ApiKeys
from manager.store.store import Store

REACHED = "SERVER::CAPACITY_REACHED"

_UNNAMED = frozenset({"", DEFAULT_NAME})
"""Callers that have no limit of their own, so nobody needs to remember what they made."""


class Capacity:
    """Counts what exists against the limits; a sandbox counts from its create until it is gone."""

    def __init__(self, inventory: Inventory, keys: ApiKeys, store: Store, most: int | None) -> None:
        self.most = most
        """Most sandboxes in all; None is no limit."""
        self._inventory = inventory
        self._keys = keys
        self._store = store
        self._owners: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def load(self, owners: Mapping[str, str]) -> None:
        """Takes over what the store has kept."""
        for sandbox_id, owner in owners.items():
            self._take(sandbox_id, owner)

    def check(self, caller: str) -> None:
        """Raises TooMany when the server, or the key named `caller`, has no room for another sandbox."""
        if self.most is not None and self._inventory.existing() >= self.most:
            raise TooMany(
                REACHED, f"server.max_sandboxes: {self.most} sandboxes exist; delete one first", retry_after=5
            )
        key = self._keys.named(caller)
        if key is not None and key.max_sandboxes is not None and self._counts[caller] >= key.max_sandboxes:
            message = f"{key.max_sandboxes} sandboxes made with the API key {caller!r} exist; delete one first"
            raise TooMany(REACHED, message, retry_after=5)

    def take(self, sandbox_id: str, caller: str) -> None:
        """Counts a sandbox that is about to be made; call it without a pause after `check`."""
        if caller not in _UNNAMED:
            self._take(sandbox_id, caller)

    def counts(self, sandbox_id: str) -> bool:
        """Whether somebody's limit counts it."""
        return sandbox_id in self._owners

    async def remember(self, sandbox_id: str) -> None:
        """Keeps who made it; on the disk when this returns. Raises Unavailable."""
        owner = self._owners.get(sandbox_id)
        if owner is not None:
            await self._store.owners.put(sandbox_id, owner)

    def on_change(self, change: Change) -> None:
        """Makes room again when a sandbox is gone, or turns out to be the record of a failed create."""
        if change.after is None or self._inventory.is_failure(change.sandbox_id):
            owner = self._owners.pop(change.sandbox_id, None)
            if owner is not None:
                self._counts[owner] -= 1

    def stale(self) -> set[str]:
        """Ids that are counted and that nobody knows any more."""
        return {sandbox_id for sandbox_id in self._owners if self._inventory.get(sandbox_id) is None}

    def forget(self, sandbox_ids: set[str]) -> None:
        """Counts them no longer."""
        for sandbox_id in sandbox_ids:
            owner = self._owners.pop(sandbox_id, None)
            if owner is not None:
                self._counts[owner] -= 1

    def _take(self, sandbox_id: str, owner: str) -> None:
        self._owners[sandbox_id] = owner
        self._counts[owner] += 1
