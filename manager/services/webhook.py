"""Events for another program: each by a signed POST, in order, repeated until it is taken or given up.

The signature covers time and body, so that a recorded request cannot be sent again later: `X-OpenSandbox-Signature` is
`sha256=` and the hexadecimal HMAC-SHA256 of `<X-OpenSandbox-Timestamp>.<body>`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import random

from aiohttp import ClientError, ClientSession, ClientTimeout

from manager.domain.errors import Unavailable
from manager.domain.events import LifecycleEvent, document
from manager.services.clock import Clock, system_clock
from manager.services.counters import Tallies
from manager.services.events import Events
from manager.settings.model import Settings

_logger = logging.getLogger(__name__)

ATTEMPTS = 8
"""After as many an event is given up: some four minutes with the pauses between them."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0
"""Seconds between attempts: each pause is twice the one before, less up to a half by chance."""
ANSWER_SECONDS = 10.0
SLICE = 100
_HEARTBEAT = 60.0


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What `X-OpenSandbox-Signature` holds."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def pause(attempt: int, chance: float) -> float:
    """Seconds to wait after so many attempts; `chance` from 0 to 1 keeps several servers apart."""
    return min(FIRST_PAUSE * 2.0 ** (attempt - 1), LONGEST_PAUSE) * (1 - chance / 2)


class Webhook:
    """Sends what happens from its start on; events of the time before are in the list."""

    def __init__(
        self,
        url: str,
        secret: bytes,
        events: Events,
        tallies: Tallies,
        clock: Clock = system_clock,
        first_pause: float = 1.0,
    ) -> None:
        """`first_pause` scales the pauses."""
        self._url = url
        self._secret = secret
        self._events = events
        self._tallies = tallies
        self._clock = clock
        self._scale = first_pause
        self._failing = False

    async def run(self) -> None:
        """Works until cancelled."""
        number = self._events.last
        async with ClientSession(timeout=ClientTimeout(total=ANSWER_SECONDS)) as session:
            while not self._events.closed:
                try:
                    for event in await self._events.since(number, SLICE):
                        await self._deliver(session, event)
                        number = event.id
                except Unavailable:
                    await asyncio.sleep(LONGEST_PAUSE * self._scale)
                await self._events.wait(number, _HEARTBEAT)

    async def _deliver(self, session: ClientSession, event: LifecycleEvent) -> None:
        body = json.dumps(document(event)).encode()
        problem = ""
        for attempt in range(1, ATTEMPTS + 1):
            problem = await self._send(session, event, body)
            if not problem:
                self._tallies.events_sent += 1
                if self._failing:
                    _logger.info("events.webhook: the receiver takes events again")
                self._failing = False
                return
            if not self._failing:
                _logger.warning("events.webhook: event %d was not taken, trying again: %s", event.id, problem)
            self._failing = True
            if attempt < ATTEMPTS:
                await asyncio.sleep(pause(attempt, random.random()) * self._scale)
        self._tallies.events_undelivered += 1
        _logger.warning("events.webhook: event %d is given up after %d attempts: %s", event.id, ATTEMPTS, problem)

    async def _send(self, session: ClientSession, event: LifecycleEvent, body: bytes) -> str:
        """Why it was not taken; empty when it was."""
        timestamp = str(int(self._clock().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "X-OpenSandbox-Event": str(event.id),
            "X-OpenSandbox-Timestamp": timestamp,
            "X-OpenSandbox-Signature": signature(self._secret, timestamp, body),
        }
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                return "" if 200 <= response.status < 300 else f"it was answered {response.status}"
        except TimeoutError:
            return f"no answer within {ANSWER_SECONDS:g} s"
        except (ClientError, OSError) as error:
            return str(error) or type(error).__name__


def webhook_of(settings: Settings, events: Events, tallies: Tallies) -> Webhook | None:
    """The webhook of the configuration, if there is one."""
    hook = settings.events.webhook
    if hook.url is None or hook.secret is None:
        return None
    return Webhook(hook.url, hook.secret.get_secret_value().encode(), events, tallies)
