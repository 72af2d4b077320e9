"""Asks the runtime what there is, for whoever must know it while its events are away."""

from __future__ import annotations

from manager.runtime.base import Runtime
from manager.services.inventory import Ending, Inventory


async def relist(runtime: Runtime, inventory: Inventory) -> None:
    """Brings the inventory in step with the runtime's list of this moment. Raises Unavailable."""
    known = inventory.reported_ids()  # what is created while we ask may be missing in the answer
    fresh = await runtime.list()
    for sandbox in fresh:
        inventory.report(sandbox)
    for sandbox_id in known - {sandbox.id for sandbox in fresh}:
        inventory.report_gone(sandbox_id, Ending.VANISHED)
