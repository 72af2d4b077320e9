"""All sandboxes in memory: what the runtime reports, overlaid with the records that only the server keeps.

Reads are dict lookups: the overlay is applied at each change, not at each read. Precedence for one id: a creation in
progress › what the runtime reports › the record of a failed creation.
"""

from __future__ import annotations

import enum
import logging
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from manager.domain.ids import is_id
from manager.domain.records import Failure
from manager.domain.sandbox import Sandbox, SandboxState, SandboxStatus
from manager.services.limits import with_limits

_logger = logging.getLogger(__name__)

_REMEMBERED_DELETIONS = 4096


class Ending(enum.Enum):
    """Why a sandbox ends."""

    DELETED = "deleted"
    EXPIRED = "expired"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one id. `ending` is set while the sandbox is being removed and when it is gone."""

    sandbox_id: str
    before: Sandbox | None
    after: Sandbox | None
    ending: Ending | None = None


Listener = Callable[[Change], None]
"""Called on the loop for every change, in order; must neither block nor raise."""


class Inventory:
    """The sandboxes of this server by id."""

    def __init__(self) -> None:
        self.in_sync = False
        """Whether the runtime's events are live; if not, reads go to the runtime."""
        self._listeners: list[Listener] = []
        self._shown: dict[str, Sandbox] = {}
        self._order: list[tuple[datetime, str]] = []
        self._addresses: Counter[str] = Counter()
        self._states: Counter[SandboxState] = Counter()
        # The sources of what is shown.
        self._reported: dict[str, Sandbox] = {}
        self._creating: dict[str, Sandbox] = {}
        self._failures: dict[str, Failure] = {}
        # The overlay: what only the server knows.
        self._renewals: dict[str, datetime] = {}
        self._metadata: dict[str, dict[str, str]] = {}
        self._limits: dict[str, dict[str, str]] = {}
        self._moving: dict[str, SandboxStatus] = {}
        self._endings: dict[str, Ending] = {}
        self._doomed: set[str] = set()
        # An event may be older than our own deletion: a removed sandbox does not come back.
        self._removed: OrderedDict[str, None] = OrderedDict()

    # Reading

    def get(self, sandbox_id: str) -> Sandbox | None:
        """The sandbox as it is shown, or None."""
        return self._shown.get(sandbox_id)

    def newest_first(self) -> Iterator[Sandbox]:
        """Every sandbox that is shown, the latest created first."""
        return (self._shown[key[1]] for key in reversed(self._order))

    def ids_newest_first(self) -> list[str]:
        """The ids of every sandbox that is shown, the latest created first, as they are at this moment."""
        return [key[1] for key in reversed(self._order)]

    def __len__(self) -> int:
        return len(self._shown)

    def states(self) -> dict[SandboxState, int]:
        """How many sandboxes are shown in each state."""
        return {state: self._states[state] for state in SandboxState}

    def existing(self) -> int:
        """How many sandboxes exist or are being made; records of failed creations are none."""
        return len(self._reported.keys() | self._creating.keys())

    def owns_address(self, address: str) -> bool:
        """Whether a live sandbox's own connections come from this address."""
        return self._addresses[address] > 0

    def is_creating(self, sandbox_id: str) -> bool:
        """Whether this server is making it at the moment."""
        return sandbox_id in self._creating

    def is_failure(self, sandbox_id: str) -> bool:
        """Whether nothing of it exists but the record of its failed creation."""
        return sandbox_id in self._failures and sandbox_id not in self._reported

    def is_doomed(self, sandbox_id: str) -> bool:
        """Whether it is to be deleted the moment its creation ends."""
        return sandbox_id in self._doomed

    def deadline(self, sandbox_id: str) -> datetime | None:
        """When it is removed automatically: its expiry, or that of its failure record."""
        if self.is_failure(sandbox_id):
            return self._failures[sandbox_id].until
        shown = self._shown.get(sandbox_id)
        return shown.expires_at if shown is not None and sandbox_id not in self._creating else None

    def reported_ids(self) -> set[str]:
        """The ids the runtime reports."""
        return set(self._reported)

    def doomed_ids(self) -> set[str]:
        """The ids to be deleted when they appear."""
        return set(self._doomed)

    # Events of the runtime

    def report(self, sandbox: Sandbox) -> None:
        """The runtime reports the sandbox's current state; one whose id does not fit an address is ignored."""
        if not is_id(sandbox.id):
            _logger.warning("left alone: something that calls itself sandbox %r", sandbox.id[:64])
        elif sandbox.id not in self._removed and self._reported.get(sandbox.id) != sandbox:
            self._reported[sandbox.id] = sandbox
            self._refresh(sandbox.id)

    def report_gone(self, sandbox_id: str, ending: Ending) -> None:
        """The runtime reports that it no longer exists; a deletion of ours in progress sets the reason instead."""
        if self._reported.pop(sandbox_id, None) is not None:
            self._refresh(sandbox_id, self._endings.get(sandbox_id, ending))

    # Operations of the server itself

    def load(
        self,
        renewals: Mapping[str, datetime],
        metadata: Mapping[str, dict[str, str]],
        limits: Mapping[str, dict[str, str]],
        failures: Iterable[Failure],
        doomed: Iterable[str],
    ) -> None:
        """Loads the stored records; called before the first report."""
        self._renewals.update(renewals)
        self._metadata.update(metadata)
        self._limits.update(limits)
        self._doomed.update(doomed)
        for failure in failures:
            self.failed(failure)

    def begin(self, sandbox: Sandbox) -> None:
        """A creation has started; `sandbox` is Pending."""
        self._creating[sandbox.id] = sandbox
        self._refresh(sandbox.id)

    def progress(self, sandbox_id: str, message: str) -> None:
        """Sets the progress of the creation, one human-readable line."""
        pending = self._creating.get(sandbox_id)
        if pending is not None:
            self._creating[sandbox_id] = replace(pending, status=replace(pending.status, message=message))
            self._refresh(sandbox_id)

    def created(self, sandbox: Sandbox) -> None:
        """The creation has succeeded."""
        self._creating.pop(sandbox.id, None)
        self._reported[sandbox.id] = sandbox
        self._refresh(sandbox.id)

    def abandoned(self, sandbox_id: str) -> None:
        """The creation was cancelled; no failure record is kept."""
        self._creating.pop(sandbox_id, None)
        self._refresh(sandbox_id, Ending.DELETED)

    def failed(self, failure: Failure) -> None:
        """The creation has failed; the failure record is shown unless the sandbox exists after all."""
        self._creating.pop(failure.sandbox.id, None)
        self._failures[failure.sandbox.id] = failure
        self._refresh(failure.sandbox.id)

    def forget_failure(self, sandbox_id: str) -> None:
        """Shows a failed creation no longer."""
        if self._failures.pop(sandbox_id, None) is not None:
            self._refresh(sandbox_id, Ending.DELETED)

    def disproved_failures(self) -> set[str]:
        """Ids of failures that exist after all."""
        return self._failures.keys() & self._reported.keys()

    def doom(self, sandbox_id: str) -> None:
        """Marks a sandbox as deleted for callers while its creation still runs."""
        self._doomed.add(sandbox_id)
        self._refresh(sandbox_id, Ending.DELETED)

    def renew(self, sandbox_id: str, expires_at: datetime) -> None:
        """The expiry that holds from now on."""
        self._renewals[sandbox_id] = expires_at
        self._refresh(sandbox_id)

    def patch(self, sandbox_id: str, metadata: dict[str, str]) -> None:
        """The metadata that holds from now on."""
        self._metadata[sandbox_id] = metadata
        self._refresh(sandbox_id)

    def limit(self, sandbox_id: str, limits: dict[str, str]) -> None:
        """The limits that hold from now on."""
        self._limits[sandbox_id] = limits
        self._refresh(sandbox_id)

    def moving(self, sandbox_id: str, status: SandboxStatus, ending: Ending | None = None) -> None:
        """An operation has begun: its state is shown until `settle` or, for a deletion, `removed`."""
        self._moving[sandbox_id] = status
        if ending is not None:
            self._endings[sandbox_id] = ending
        self._refresh(sandbox_id, ending)

    def settle(self, sandbox_id: str, sandbox: Sandbox | None = None) -> None:
        """The operation is over; `sandbox` is how the runtime sees it now, where somebody has asked."""
        self._moving.pop(sandbox_id, None)
        self._endings.pop(sandbox_id, None)
        if sandbox is not None:
            self._reported[sandbox_id] = sandbox
        self._refresh(sandbox_id)

    def removed(self, sandbox_id: str, ending: Ending) -> None:
        """The server has deleted it; later events of it are stale."""
        self._removed[sandbox_id] = None
        if len(self._removed) > _REMEMBERED_DELETIONS:
            self._removed.popitem(last=False)
        self._reported.pop(sandbox_id, None)
        self._failures.pop(sandbox_id, None)
        self._doomed.discard(sandbox_id)
        self._refresh(sandbox_id, ending)

    def forget_facts(self, sandbox_ids: Iterable[str]) -> None:
        """Drops overlays of sandboxes that no longer exist."""
        for sandbox_id in sandbox_ids:
            self._renewals.pop(sandbox_id, None)
            self._metadata.pop(sandbox_id, None)
            self._limits.pop(sandbox_id, None)

    def has_facts(self, sandbox_id: str) -> bool:
        """Whether the store keeps something about it."""
        return any(sandbox_id in facts for facts in (self._renewals, self._metadata, self._limits))

    def stale_facts(self) -> set[str]:
        """Ids with overlays but no sandbox."""
        known = self._renewals.keys() | self._metadata.keys() | self._limits.keys()
        return known - self._shown.keys() - self._reported.keys()

    # Listening

    def listen(self, listener: Listener) -> None:
        """Calls `listener` for every change from now on, in the order of registration."""
        self._listeners.append(listener)

    def _refresh(self, sandbox_id: str, ending: Ending | None = None) -> None:
        before, after = self._shown.get(sandbox_id), self._compose(sandbox_id)
        if before == after:
            return
        if before is not None:
            self._drop(before)
        if after is not None:
            self._show(after)
        else:
            self._moving.pop(sandbox_id, None)
            self._endings.pop(sandbox_id, None)
        change = Change(sandbox_id, before, after, ending or self._endings.get(sandbox_id))
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:  # one listener's exception must not keep the change from the others
                _logger.exception("a listener failed on sandbox %s", sandbox_id)

    def _compose(self, sandbox_id: str) -> Sandbox | None:
        if sandbox_id in self._doomed:
            return None
        sandbox = self._creating.get(sandbox_id) or self._reported.get(sandbox_id)
        if sandbox is None:
            failure = self._failures.get(sandbox_id)
            return None if failure is None else failure.sandbox
        renewed, metadata = self._renewals.get(sandbox_id), self._metadata.get(sandbox_id)
        moving, limits = self._moving.get(sandbox_id), self._limits.get(sandbox_id)
        if renewed is None and metadata is None and moving is None and limits is None:
            return sandbox
        return replace(
            sandbox,
            status=sandbox.status if moving is None else moving,
            expires_at=sandbox.expires_at if renewed is None else renewed,
            metadata=sandbox.metadata if metadata is None else metadata,
            extensions=sandbox.extensions if limits is None else with_limits(sandbox.extensions, limits),
        )

    def _show(self, sandbox: Sandbox) -> None:
        self._shown[sandbox.id] = sandbox
        insort(self._order, (sandbox.created_at, sandbox.id))
        self._states[sandbox.status.state] += 1
        self._addresses.update(_live_addresses(sandbox))

    def _drop(self, sandbox: Sandbox) -> None:
        del self._shown[sandbox.id]
        del self._order[bisect_left(self._order, (sandbox.created_at, sandbox.id))]
        self._states[sandbox.status.state] -= 1
        for address in _live_addresses(sandbox):
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]


_OVER = frozenset({SandboxState.TERMINATED, SandboxState.FAILED})


def _live_addresses(sandbox: Sandbox) -> tuple[str, ...]:
    return () if sandbox.status.state in _OVER else sandbox.addresses.own
