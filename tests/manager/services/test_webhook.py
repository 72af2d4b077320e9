"""The webhook: signed, in order, repeated until it is taken or given up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from manager.domain.events import document
from manager.services.counters import Tallies
from manager.services.webhook import ATTEMPTS, LONGEST_PAUSE, Webhook, pause
from manager.settings.rules import conflicts
from tests.manager.fake_runtime import running
from tests.manager.harness import House, open_house, settings_of, until

SECRET = b"between us"


class Receiver:
    """Answers with the statuses it is given, then 204; keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.taken: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        """One delivery."""
        body = await request.read()
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 204:
            self.taken.append((dict(request.headers), body))
        return web.Response(status=status)


@asynccontextmanager
async def sending(house: House, receiver: Receiver) -> AsyncIterator[Tallies]:
    """A webhook of the house for this receiver, without pauses."""
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    tallies = Tallies()
    async with TestServer(app) as server:
        hook = Webhook(str(server.make_url("/hook")), SECRET, house.services.events, tallies, house.clock, 0.0)
        task = asyncio.ensure_future(hook.run())
        await asyncio.sleep(0)
        yield tallies
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def happen(house: House, *names: str) -> None:
    """An event of each."""
    for name in names:
        house.runtime.appear(running(name))
        house.runtime.vanish(name)


async def test_each_event_is_sent_signed(tmp_path: Path) -> None:
    """In order, with the same body as in the list; time and body are covered by the signature."""
    receiver = Receiver()
    async with open_house(tmp_path) as house, sending(house, receiver) as tallies:
        happen(house, "a", "b")
        await until(lambda: len(receiver.taken) == 2)
        events = await house.services.events.since(0, 9)
        assert [json.loads(body) for _, body in receiver.taken] == [document(event) for event in events]
        for headers, body in receiver.taken:
            signed = headers["X-OpenSandbox-Timestamp"].encode() + b"." + body
            expected = hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
            assert headers["X-OpenSandbox-Signature"] == f"sha256={expected}"
            assert headers["X-OpenSandbox-Timestamp"] == str(int(house.clock().timestamp()))
        await until(lambda: tallies.events_sent == 2)


async def test_what_is_not_taken_is_sent_again(tmp_path: Path) -> None:
    """Until it is; the next one waits, so the order holds."""
    receiver = Receiver(500, 302, 429)
    async with open_house(tmp_path) as house, sending(house, receiver) as tallies:
        happen(house, "a", "b")
        await until(lambda: tallies.events_sent == 2)
        assert [json.loads(body)["sandboxId"] for _, body in receiver.taken] == ["a", "b"]
        assert tallies.events_undelivered == 0


async def test_what_is_never_taken_is_counted(tmp_path: Path) -> None:
    """And does not keep the next one."""
    receiver = Receiver(*[500] * ATTEMPTS)
    async with open_house(tmp_path) as house, sending(house, receiver) as tallies:
        happen(house, "a", "b")
        await until(lambda: tallies.events_sent == 1)
        assert tallies.events_undelivered == 1
        assert [json.loads(body)["sandboxId"] for _, body in receiver.taken] == ["b"]


def test_pauses_grow_to_a_limit() -> None:
    """Each is twice the one before, less some chance."""
    assert [pause(attempt, 0.0) for attempt in (1, 2, 3, 20)] == [1.0, 2.0, 4.0, LONGEST_PAUSE]
    assert pause(3, 1.0) == 2.0


def test_a_webhook_has_a_secret() -> None:
    """Its receiver could not tell our events from anybody's."""
    settings = settings_of()
    webhook = settings.events.webhook.model_copy(update={"url": "https://x.test/hook"})
    hooked = settings.model_copy(update={"events": settings.events.model_copy(update={"webhook": webhook})})
    assert [str(problem).partition(":")[0] for problem in conflicts(hooked)] == ["events.webhook.secret"]
