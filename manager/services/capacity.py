"""How many sandboxes there may be: in all, and per API key."""

from __future__ import annotations

from collections import Counter

from manager.domain.codes import CAPACITY_REACHED
from manager.domain.errors import TooMany
from manager.services.api_keys import ApiKeys
from manager.services.inventory import Change, Inventory


class Capacity:
    """Counts what exists against the limits; a sandbox counts from its create until it is gone."""

    def __init__(self, inventory: Inventory, keys: ApiKeys, most: int | None) -> None:
        self.most = most
        """Most sandboxes in all; None is no limit."""
        self._inventory = inventory
        self._keys = keys
        self._owners: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def limits(self, caller: str) -> bool:
        """Whether anything limits how many sandboxes there are, or how many the key named `caller` has made."""
        key = self._keys.named(caller)
        return self.most is not None or (key is not None and key.max_sandboxes is not None)

    def check(self, caller: str) -> None:
        """Raises TooMany when the server, or the key named `caller`, has no room for another sandbox.

        The caller must add the sandbox to the inventory, which counts it, without awaiting anything in between.
        """
        key = self._keys.named(caller)
        if self.most is not None and self._inventory.existing() >= self.most:
            full = f"server.max_sandboxes: {self.most} sandboxes exist; delete one first"
            if key is not None and key.own_only:
                full = "server.max_sandboxes: the server has as many sandboxes as it may have; try again later"
            raise TooMany(CAPACITY_REACHED, full, retry_after=5)
        if key is not None and key.max_sandboxes is not None and self._counts[caller] >= key.max_sandboxes:
            message = f"{key.max_sandboxes} sandboxes made with the API key {caller!r} exist; delete one first"
            raise TooMany(CAPACITY_REACHED, message, retry_after=5)

    def on_change(self, change: Change) -> None:
        """Counts a sandbox until it is gone or becomes the record of a failed create."""
        after = change.after
        exists = after is not None and not self._inventory.is_failure(change.sandbox_id)
        if exists and after is not None and change.sandbox_id not in self._owners:
            self._owners[change.sandbox_id] = after.owner
            self._counts[after.owner] += 1
        elif not exists and (owner := self._owners.pop(change.sandbox_id, None)) is not None:
            self._counts[owner] -= 1
