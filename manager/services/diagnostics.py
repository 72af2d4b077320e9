"""Diagnostics of a sandbox as text: its output, its events, and the runtime's description of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from manager.domain.codes import INVALID_PARAMETER, Codes
from manager.domain.errors import Invalid, NotFound
from manager.domain.sandbox import Sandbox
from manager.runtime.base import LogQuery, Output, Runtime
from manager.services.journal import Journal
from manager.services.sandboxes import Sandboxes

MAX_BYTES = 1024 * 1024
"""Most output that one answer carries; a follower gets all of it."""

NO_LOGS = "(no logs)"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SINCE = re.compile(r"(\d{1,6})([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and whether more of it was left out."""

    content: str
    truncated: bool = False


def parse_since(text: str, now: datetime) -> datetime:
    """The moment `10m` ago; raises Invalid for what is not a number with s, m, h or d."""
    found = _SINCE.fullmatch(text.strip())
    if found is None:
        raise Invalid(INVALID_PARAMETER, f"since: must be a number with s, m, h or d such as 10m, got {text[:40]!r}")
    return now - timedelta(seconds=int(found[1]) * _UNITS[found[2]])


class Diagnostics:
    """Reads one sandbox's diagnostics from the runtime and the journal."""

    def __init__(self, runtime: Runtime, sandboxes: Sandboxes, journal: Journal) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._journal = journal
        self._codes = Codes(runtime.name)

    async def logs(self, sandbox_id: str, tail: int, since: datetime | None = None) -> Text:
        """The last lines of the output with their times. Raises NotFound, Unavailable."""
        sandbox = await self._sandboxes.get(sandbox_id)
        if not sandbox.uid:
            return Text(NO_LOGS)
        kept, size = bytearray(), 0
        with contextlib.closing(await self._runtime.logs(sandbox_id, LogQuery(tail=tail, since=since))) as output:
            async for piece in output:
                size += len(piece)
                kept += piece
                del kept[:-MAX_BYTES]
        text = kept.decode("utf-8", "replace")
        return Text(text or NO_LOGS, truncated=size > MAX_BYTES)

    async def follow(self, sandbox_id: str, tail: int) -> Output:
        """The output as it comes, from the last lines on; to be closed. Raises NotFound, TooMany, Unavailable."""
        sandbox = await self._sandboxes.get(sandbox_id)
        if not sandbox.uid:
            raise NotFound(self._codes.not_found, f"Sandbox {sandbox_id} has no output: nothing of it was started.")
        return await self._runtime.logs(sandbox_id, LogQuery(tail=tail, follow=True))

    async def events(self, sandbox_id: str, limit: int) -> Text:
        """Its events, oldest first. Raises NotFound, Unavailable."""
        sandbox = await self._sandboxes.get(sandbox_id)
        state = _state_of(await self._runtime.inspect(sandbox_id))
        lines = [*_head(sandbox), *(f"{key}: {value}" for key, value in _times(state)), *_incidents(state)]
        seen = [_line(entry.at, entry.sandbox) for entry in self._journal.of(sandbox_id) if entry.sandbox is not None]
        return Text("\n".join(lines + [f"Event: {line}" for line in seen[-limit:]]) + "\n", truncated=len(seen) > limit)

    async def inspect(self, sandbox_id: str) -> Text:
        """The runtime's own description, secrets masked. Raises NotFound, Unavailable."""
        sandbox = await self._sandboxes.get(sandbox_id)
        details = await self._runtime.inspect(sandbox_id)
        body = list(render(details)) if details is not None else ["(nothing of it exists)"]
        return Text("\n".join([*_head(sandbox), *body]) + "\n")

    async def summary(self, sandbox_id: str, tail: int, event_limit: int) -> Text:
        """Everything on one page. Raises NotFound, Unavailable."""
        inspected = await self.inspect(sandbox_id)
        events = await self.events(sandbox_id, event_limit)
        logs = await self.logs(sandbox_id, tail)
        sections = (("Inspect", inspected), ("Events", events), ("Logs", logs))
        return Text("\n".join(f"== {name} ==\n{text.content}" for name, text in sections))


def render(value: object, indent: str = "") -> Iterator[str]:
    """A nested value as indented lines, keys in their order, empty values left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if item not in (None, "", [], {}):
                yield from _field(str(key), item, indent)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from (f"{indent}- {line.strip()}" for line in render(item, ""))
    else:
        yield f"{indent}{value}"


def _field(key: str, item: object, indent: str) -> Iterator[str]:
    if isinstance(item, Mapping | list | tuple):
        yield f"{indent}{key}:"
        yield from render(item, indent + "  ")
    else:
        yield f"{indent}{key}: {item}"


def _line(at: datetime, sandbox: Sandbox) -> str:
    status = sandbox.status
    return f"{at.isoformat()} {status.state.value}" + (f": {status.message}" if status.message else "")


def _head(sandbox: Sandbox) -> list[str]:
    status = sandbox.status
    lines = [
        f"Sandbox: {sandbox.id}",
        f"Status: {status.state.value}" + (f" ({status.reason})" if status.reason else ""),
        f"Created: {sandbox.created_at.isoformat()}",
    ]
    return [*lines, f"Message: {status.message}"] if status.message else lines


def _state_of(details: Mapping[str, object] | None) -> Mapping[str, object]:
    state = (details or {}).get("State")
    return state if isinstance(state, Mapping) else {}


def _times(state: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, name in (("StartedAt", "Started"), ("FinishedAt", "Finished")):
        value = state.get(key)
        if value and not str(value).startswith("0001-"):
            yield name, value


def _incidents(state: Mapping[str, object]) -> Iterator[str]:
    if state.get("OOMKilled"):
        yield "Event: OOMKilled: the sandbox ran out of memory"
    if state.get("ExitCode"):
        yield f"Event: exited with code {state['ExitCode']}"
    if state.get("Error"):
        yield f"Event: error: {state['Error']}"
    health = state.get("Health")
    if isinstance(health, Mapping) and health.get("Status"):
        yield f"Health: {health['Status']}"
