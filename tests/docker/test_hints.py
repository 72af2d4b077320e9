"""An event of the Engine is only a hint to look again, and no hint may be lost."""

from __future__ import annotations

import asyncio
from typing import Any

from manager.domain.sandbox import Sandbox
from manager.runtime.base import RuntimeEvent
from manager.runtime.docker.container_cache import ContainerCache
from manager.runtime.docker.events import Watch
from manager.runtime.docker.status import DialView
from tests.manager.fake_runtime import running

HINT = {"Action": "die", "Actor": {"Attributes": {"opensandbox.io/id": "box", "opensandbox.io/instance": "mine"}}}


class Looked(ContainerCache):
    """Counts looks, and calls `meanwhile` when the first one has just seen what there is."""

    def __init__(self) -> None:
        super().__init__(None, "mine", None, DialView("127.0.0.1", bool))  # type: ignore[arg-type]
        self.looks = 0
        self.meanwhile: Any = None

    async def one(self, sandbox_id: str) -> Sandbox | None:
        self.looks += 1
        if self.looks == 1:
            asyncio.get_running_loop().call_soon(self.meanwhile, HINT)
        return running(sandbox_id)


async def test_a_hint_that_comes_as_a_look_ends() -> None:
    """It comes when the look is over and not yet forgotten: it means another look."""
    cache, told = Looked(), list[RuntimeEvent]()
    watch = Watch(None, cache, asyncio.Event().wait, bool)  # type: ignore[arg-type]
    watch._sink = told.append
    cache.meanwhile = watch._hint
    watch._hint(HINT)
    async with asyncio.timeout(5):
        while watch._looks:  # noqa: ASYNC110 - nothing announces the end of a look
            await asyncio.sleep(0)
    assert (cache.looks, len(told)) == (2, 2)
