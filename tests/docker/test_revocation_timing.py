"""When a sandbox goes, everything open on it ends at once and visibly, and nothing new gets in; how fast is printed.

The goal is 50 ms for a thousand connections. Times depend on the machine, so they are shown and not asserted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest
import uvloop

from gateway.access.credentials import AccessRule, Keyring
from gateway.addressing.routing import format_label
from gateway.signing import sign
from gateway.table import Removal, RouteState
from tests.docker.revocation import INSIDE, ROUTE, SANDBOX, Crowd, Ended, Held, held

WEBSOCKETS = 500
STREAMS = 500
KEY_ID, SECRET, OTHER_SECRET = "k", b"a secret", b"another secret"
HOUR = 3600

pytestmark = pytest.mark.timeout(120)

EVENTS: dict[str, tuple[Callable[[Held], None], str, int]] = {
    "deleted": (lambda held: held.table.remove(SANDBOX, Removal.DELETED), "1001 sandbox deleted", 410),
    "expired": (lambda held: held.table.remove(SANDBOX, Removal.EXPIRED), "1001 sandbox expired", 410),
    "paused": (lambda held: held.put("1", RouteState.PAUSED), "1012 sandbox paused", 409),
    "stopped": (lambda held: held.put("1", RouteState.STOPPED), "1001 sandbox stopped", 409),
    "restarted": (lambda held: held.put("2"), "1012 sandbox restarted", 200),
}


@pytest.mark.parametrize(("event", "close", "status"), EVENTS.values(), ids=EVENTS)
def test_a_thousand_connections_end_with_their_sandbox(
    event: Callable[[Held], None], close: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each WebSocket gets its close frame, each stream is cut before its end, and the next request hears why."""

    async def scene() -> tuple[Ended, int]:
        async with held() as stage:
            crowd = await Crowd.gather(stage.port, ROUTE, WEBSOCKETS, STREAMS)
            since, cpu = time.monotonic(), time.process_time()
            event(stage)
            answered = await stage.status()
            return await crowd.ended(since, cpu), answered

    ended, answered = uvloop.run(scene())
    with capsys.disabled():
        sys.stdout.write(f"\n{close}: {ended}\n")
    assert ended.websockets == {close}
    assert ended.streams == {"truncated"}
    assert answered == status


def test_a_thousand_connections_end_with_their_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Taking a key away ends what came in with its signatures, and such a signature opens nothing any more."""

    async def scene() -> tuple[Ended, int]:
        async with held() as stage:
            stage.gateway.set_keyring(Keyring({KEY_ID.encode(): SECRET}))
            stage.put("1", access=AccessRule(b"a token"))
            signature = sign(KEY_ID, SECRET, SANDBOX, INSIDE, int(time.time()) + HOUR)
            route = format_label(SANDBOX, INSIDE, signature)
            crowd = await Crowd.gather(stage.port, route, WEBSOCKETS, STREAMS)
            since, cpu = time.monotonic(), time.process_time()
            stage.gateway.set_keyring(Keyring({KEY_ID.encode(): OTHER_SECRET}))
            answered = await stage.status(route)
            return await crowd.ended(since, cpu), answered

    ended, answered = uvloop.run(scene())
    with capsys.disabled():
        sys.stdout.write(f"\nkey taken away: {ended}\n")
    assert ended.websockets == {"1001 access revoked"}
    assert ended.streams == {"truncated"}
    assert answered == 401
