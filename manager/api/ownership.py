"""The object that each route is about, and so what a key of scope "own" may do there.

Checked before the handler, in the same way for objects of other keys and for unknown ids: neither the response nor the
checks before it distinguish the two.
"""

from __future__ import annotations

import enum
from typing import Any

from manager.api.call import Call
from manager.domain.errors import Forbidden
from manager.domain.ownership import SCOPE


class About(enum.Enum):
    """What a route is about."""

    SANDBOX = "the sandbox whose id is in the path"
    SNAPSHOT = "the snapshot whose id is in the path"
    OWN = "what the caller made: the handler leaves out the rest"
    SERVER = "the whole server"
    NOBODY = "nothing that anybody made"


async def check_ownership(call: Call[Any, Any], about: About) -> None:
    """Raises NotFound for an object that the caller may not see, Forbidden for a route about objects of all keys."""
    viewer = call.viewer
    if viewer is None:
        return
    if about is About.SANDBOX:
        await call.services.sandboxes.get(call.sandbox_id(), viewer)
    elif about is About.SNAPSHOT:
        call.services.snapshots.get(call.request.match_info["id"], viewer)
    elif about is About.SERVER:
        raise Forbidden(
            SCOPE, f"The API key {viewer!r} sees only what was made with it; this is about the whole server."
        )
