"""One worker process, as the first process handles it: start, send messages, receive messages, wait.

gateway/workers/worker.py is the program at the other end, gateway/workers/messages.py what the two say to each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import gateway.workers.messages
from gateway.table import Resolution, Resolver, RouteTable
from gateway.workers.channel import Channel
from gateway.workers.messages import (
    Answer,
    Applied,
    Ask,
    Gone,
    Loaded,
    LogLine,
    Message,
    Put,
    Secrets,
    Serving,
    Setup,
    Synced,
    encode,
)
from gateway.workers.usage import Report, UsageTotals

log = logging.getLogger(__name__)

Application = Callable[[], asyncio.Protocol]

END_SECONDS: Final = 2.0
"""How long a worker may take to exit after its channel is closed, before it is killed."""
BATCH: Final = 100
"""Messages of a snapshot that are sent before control returns to the event loop."""
MAX_BACKLOG: Final = 64 << 20
"""Unread bytes of messages after which a worker is killed."""
_DOOR_BATCH: Final = 64
_PROGRAM_ROOT: Final = str(Path(gateway.workers.messages.__file__).parents[2])
_PASSED_ON: Final = ("LANG", "LC_", "LD_", "PYTHON", "TZ", "FAKETIME", "UVLOOP")


class WorkerProcess:
    """A worker from its start to its end."""

    def __init__(self, number: int, table: RouteTable, resolver: Resolver, application: Application) -> None:
        self.number = number
        self.ledger = UsageTotals(table)
        self.serving = asyncio.Event()
        """Set once it accepts clients."""
        self.reports = 0
        """How many it has sent."""
        self._table = table
        self._resolver = resolver
        self._application = application
        self._channel = Channel(self._take, self._on_lost)
        self._lost = asyncio.Event()
        self._door: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._applied = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def pid(self) -> int:
        """Its process id; 0 before the start."""
        return 0 if self._process is None else self._process.pid

    @property
    def lost(self) -> bool:
        """Whether the channel is closed."""
        return self._lost.is_set()

    async def start(self) -> None:
        """Starts the process; `begin` has to follow at once. Raises OSError when it cannot be started."""
        loop = asyncio.get_running_loop()
        feed, feed_there = socket.socketpair()
        self._door, door_there = socket.socketpair()
        for sock in (feed, self._door):
            sock.setblocking(False)
        with contextlib.closing(feed_there), contextlib.closing(door_there):
            descriptors = feed_there.fileno(), door_there.fileno()
            # -P: never import from the current directory.
            command = [sys.executable, "-P", "-m", "gateway.workers.worker", *map(str, descriptors)]
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=descriptors, env=_environment()
                )
            except OSError:
                feed.close()
                self._door.close()
                raise
        await loop.create_connection(lambda: self._channel, sock=feed)
        loop.add_reader(self._door, self._admit, self._door)

    def begin(self, setup: Setup, secrets: Secrets) -> None:
        """Sends the first messages; from now on the worker gets every change of the route table."""
        self.tell(setup)
        self.tell(secrets)
        self._spawn(self._load())

    async def ended(self) -> int:
        """Waits for the end of the process; returns its exit code, negative for a signal."""
        await self._lost.wait()
        process = self._process
        if process is None:
            return 0
        try:
            async with asyncio.timeout(END_SECONDS):
                return await process.wait()
        except TimeoutError:
            self.kill()
            return await process.wait()

    def kill(self) -> None:
        """Kills the process; its connections are closed."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def tell(self, message: Message) -> None:
        """Sends a message."""
        self.tell_line(encode(message))

    def tell_line(self, line: bytes) -> None:
        """Sends an encoded message; a worker that is too far behind is killed."""
        if self.lost:
            return
        self._channel.send_line(line)
        if self._channel.backlog > MAX_BACKLOG:
            log.error("worker %d does not follow the route table; it is killed", self.number)
            self.kill()

    async def caught_up(self) -> None:
        """Waits until all messages sent so far have taken effect, or the worker has exited."""
        goal = self._channel.sent
        if self.lost or self._applied >= goal:
            return
        reached = asyncio.get_running_loop().create_future()
        self._waiting.append((goal, reached))
        await reached

    async def _load(self) -> None:
        """Sends the current table; changes meanwhile are sent at once, and nothing here may undo them."""
        table = self._table
        for number, (sandbox_id, reason) in enumerate(table.tombstones()):
            if table.gone(sandbox_id) is reason:
                self.tell(Gone(sandbox_id.decode("ascii"), reason, table.owner_of(sandbox_id) or ""))
            if number % BATCH == 0:
                await self._channel.writable()
        for number, route in enumerate(table):
            if table.get(route.id) is route:
                self.tell(Put.of(route))
            if number % BATCH == 0:
                await self._channel.writable()
        self.tell(Synced(table.synced))
        self.tell(Loaded())

    # Messages from the worker.

    def _take(self, message: Message) -> None:
        match message:
            case Report():
                self.reports += message.counters is not None
                self.ledger.enter(message)
            case Applied():
                self._on_applied(message.count)
            case Ask():
                self._spawn(self._answer(message))
            case LogLine():
                text = f"worker {self.number}: {message.text}"
                logging.getLogger(message.logger).log(message.level, "%s", text)
            case Serving():
                log.info("worker %d serves (process %d)", self.number, self.pid)
                self.serving.set()

    def _on_applied(self, count: int) -> None:
        self._applied = count
        still = []
        for goal, reached in self._waiting:
            if goal > count:
                still.append((goal, reached))
            elif not reached.done():
                reached.set_result(None)
        self._waiting = still

    async def _answer(self, question: Ask) -> None:
        resolution = await self._resolve(question)
        route = self._table.get(question.id.encode("ascii"))
        if route is not None:
            # The snapshot may not have arrived there yet.
            self.tell(Put.of(route))
        self.tell(Answer(question, resolution))

    async def _resolve(self, question: Ask) -> Resolution:
        try:
            if question.wake:
                return await self._resolver.wake(question.id)
            if self._table.get(question.id.encode("ascii")) is not None:
                return Resolution.PUBLISHED
            if self._table.synced:
                return Resolution.NOT_FOUND
            return await self._resolver.resolve(question.id)
        except Exception:
            # The worker's client must get a response, whatever fails here.
            log.exception("cannot look up a sandbox for worker %d", self.number)
            return Resolution.UNAVAILABLE

    def _admit(self, door: socket.socket) -> None:
        """Accepts the socket pairs that the worker has sent, each a connection to the application."""
        for _ in range(_DOOR_BATCH):
            try:
                data, descriptors, _, _ = socket.recv_fds(door, 1, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._close_door()
                return
            for descriptor in descriptors:
                sock = socket.socket(fileno=descriptor)
                sock.setblocking(False)
                self._spawn(self._connect(sock))

    async def _connect(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._application, sock)

    # The end.

    def _on_lost(self) -> None:
        self._lost.set()
        self._close_door()
        for task in self._tasks:
            task.cancel()
        self._on_applied(self._channel.sent)

    def _close_door(self) -> None:
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door)
            self._door.close()
            self._door = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _environment() -> dict[str, str]:
    """A worker's environment variables: those of Python and the C library, none that may hold a secret."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**passed, "PYTHONPATH": _PROGRAM_ROOT}
