"""Cache of this server's containers: one list call, plus an inspect for each container that changed since the last.

A list entry holds neither start time nor exit code, so inspected details are cached by container and inspected again
only when the entry's fingerprint changes or an event arrives for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from manager.domain.sandbox import Sandbox
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.labels import CLAIM, ID, INSTANCE, POOL, SIDECAR_FOR, Facts, read_facts
from manager.runtime.docker.legacy import Legacy, is_unowned
from manager.runtime.docker.status import (
    DialView,
    fingerprint,
    fingerprint_of,
    is_sandbox,
    is_sidecar,
    network_owner,
    sandbox_from,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """The list entries of one server's containers: sandboxes and sidecars by sandbox id."""

    sandboxes: dict[str, Json]
    sidecars: dict[str, Json]


class ContainerCache:
    """Knows the sandboxes of one instance."""

    def __init__(self, calls: Calls, instance: str, legacy: Legacy | None, view: DialView) -> None:
        """`legacy` reads sandboxes without an instance label, which then belong to this server; None ignores them."""
        self._calls = calls
        self.instance = instance
        self._legacy = legacy
        self._view = view
        self._known: dict[str, tuple[object, Sandbox]] = {}
        self._starved: set[str] = set()  # sandboxes with an `oom` event
        self.claims: dict[str, dict[str, str]] = {}
        """Sandbox id → labels, for containers that were taken from a pool: their own labels could not change."""

    @property
    def watched_labels(self) -> list[str]:
        """The filter under which events of our containers arrive."""
        return [] if self._legacy else [f"{INSTANCE}={self.instance}"]

    def owns(self, labels: dict[str, str]) -> bool:
        """Whether a container with these labels is ours: by instance, or without one if those are adopted."""
        owner = labels.get(INSTANCE)
        if not labels.get(ID) and not labels.get(SIDECAR_FOR):
            return False
        return owner == self.instance or (not owner and self._legacy is not None)

    async def entries(self) -> Listed:
        """The current containers, as list entries."""
        listed = await self._calls.list_containers([f"{INSTANCE}={self.instance}"])
        if self._legacy:
            for label in (ID, SIDECAR_FOR):
                listed += [e for e in await self._calls.list_containers([label]) if not e["Labels"].get(INSTANCE)]
        sandboxes = {sandbox_id: entry for entry in listed if (sandbox_id := is_sandbox(entry))}
        sidecars = {sandbox_id: entry for entry in listed if (sandbox_id := is_sidecar(entry))}
        return Listed(sandboxes, sidecars)

    async def all(self, *, fresh: bool = False) -> tuple[Sandbox, ...]:
        """Every sandbox; `fresh` ignores the cache."""
        listed = await self.entries()
        if fresh:
            self._known.clear()
            self._starved &= listed.sandboxes.keys()
            await self.read_claims()
        for gone in self._known.keys() - listed.sandboxes.keys():
            del self._known[gone]
        found = await asyncio.gather(
            *(
                self._look(sid, entry, listed.sidecars.get(sid))
                for sid, entry in listed.sandboxes.items()
                if not self.is_stock(sid, entry["Labels"])
            )
        )
        return tuple(sandbox for sandbox in found if sandbox is not None)

    async def one(self, sandbox_id: str) -> Sandbox | None:
        """The sandbox as it is this moment."""
        details = await self.details(sandbox_id)
        if details is None or self.is_stock(sandbox_id, details["Config"]["Labels"]):
            return None
        return await self._read(details)

    def is_stock(self, sandbox_id: str, labels: dict[str, str]) -> bool:
        """Whether a container is an unclaimed one of a warm pool."""
        return bool(labels.get(POOL)) and sandbox_id not in self.claims

    def facts(self, details: Json) -> Facts:
        """What is known of an inspected container beside its state."""
        labels = details["Config"].get("Labels") or {}
        if self._legacy and is_unowned(labels):
            return self._legacy.facts(labels)
        return read_facts(self.claims.get(labels.get(ID, ""), labels))

    async def read_claims(self) -> None:
        """Learns which containers of pools were taken; one that is being taken meanwhile stays taken."""
        before = set(self.claims)
        volumes = await self._calls.list_volumes([CLAIM, f"{INSTANCE}={self.instance}"])
        meanwhile = {sandbox_id: said for sandbox_id, said in self.claims.items() if sandbox_id not in before}
        self.claims = {volume["Labels"][ID]: volume["Labels"] for volume in volumes} | meanwhile

    async def details(self, sandbox_id: str) -> Json | None:
        """The inspected container of a sandbox of ours, or None."""
        details = await self._calls.inspect_container(f"sandbox-{sandbox_id}")
        if details is not None and self._is(details, sandbox_id):
            return details
        # Containers of earlier servers, and pooled ones, may have other names; the label decides.
        for entry in await self._calls.list_containers([f"{ID}={sandbox_id}"]):
            details = await self._calls.inspect_container(entry["Id"])
            if details is not None and self._is(details, sandbox_id):
                return details
        return None

    def note_event(self, sandbox_id: str, action: str) -> None:
        """Records an `oom` event: Engines before 23 report it only as an event, not in the container's state."""
        if action == "oom":
            self._starved.add(sandbox_id)
        elif action in ("start", "destroy"):
            self._starved.discard(sandbox_id)

    def forget(self, sandbox_id: str) -> None:
        """Invalidates the entry of this sandbox: the next list inspects it again."""
        self._known.pop(sandbox_id, None)

    def _is(self, details: Json, sandbox_id: str) -> bool:
        labels = details["Config"].get("Labels") or {}
        return labels.get(ID) == sandbox_id and self.owns(labels)

    async def _look(self, sandbox_id: str, entry: Json, sidecar: Json | None) -> Sandbox | None:
        mark = (fingerprint(entry), fingerprint(sidecar) if sidecar else None)
        known = self._known.get(sandbox_id)
        if known is not None and known[0] == mark:
            return known[1]
        details = await self._calls.inspect_container(entry["Id"])
        return await self._read(details) if details is not None else None

    async def _read(self, details: Json) -> Sandbox:
        sidecar = await self._sidecar(details)
        if details["Config"]["Labels"].get(ID) in self._starved:
            details["State"]["OOMKilled"] = True
        sandbox = sandbox_from(details, sidecar, self._view, self.facts(details))
        self._known[sandbox.id] = ((fingerprint_of(details), fingerprint_of(sidecar) if sidecar else None), sandbox)
        return sandbox

    async def _sidecar(self, details: Json) -> Json | None:
        owner = network_owner(details)
        return await self._calls.inspect_container(owner) if owner is not None else None
