"""A worker: one more process of the data plane, which the first one starts, updates and replaces.

    python -m gateway.workers.worker FEED DOOR      two inherited descriptors

It listens on the same addresses (SO_REUSEPORT: the kernel spreads the connections) and serves sandbox traffic from a
copy of the route table. What is for the API goes through the door: the worker makes a socket pair and hands one end to
the first process, whose application serves it as it serves its own pairs.

A worker owns nothing. When its feed breaks, its routes are out of date from that moment on, so it ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import logging.handlers
import os
import signal
import socket
import ssl
import sys
from typing import Final

import uvloop

from gateway.access.credentials import Keyring
from gateway.gateway import Gateway
from gateway.listener import Certificate, bind
from gateway.table import Resolution, RouteTable
from gateway.workers.channel import Channel
from gateway.workers.messages import (
    Answer,
    Applied,
    Ask,
    Drain,
    Gone,
    Loaded,
    LogLevel,
    LogLine,
    Message,
    NewCertificate,
    Put,
    Secrets,
    Serving,
    Setup,
    Synced,
)
from gateway.workers.usage import UsageReporter

log = logging.getLogger("gateway.worker")

REPORT_SECONDS: Final = 1.0
FEED_LOST: Final = 3
"""Exit code of a worker whose first process has gone, or has let it go."""


class Worker:
    """The process: follows the feed, serves, reports."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._table = RouteTable()
        self._channel = Channel(self._take, self._lost, self._applied)
        self._asked: dict[Ask, asyncio.Future[Resolution]] = {}
        self._setup: Setup | None = None
        self._gateway: Gateway | None = None
        self._reporter: UsageReporter | None = None
        self._certificate: Certificate | None = None
        self._serving: asyncio.Task[None] | None = None
        self._grace: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        """Set when it is time to end: for how long what is under way may go on."""
        self._leaving = False
        self._left = asyncio.Event()
        self._exit_code = 0

    async def run(self, feed: socket.socket) -> int:
        """Serves until told to end; returns the exit code."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._channel, sock=feed)
        loop.add_signal_handler(signal.SIGTERM, self._drain, None)
        _log_through(self._channel)
        reporting = loop.create_task(self._report_for_ever())
        grace = await self._grace
        if self._serving is not None:
            await self._serving
        if self._gateway is not None:
            await self._gateway.drain(grace)
        reporting.cancel()
        await self._report()
        if self._gateway is not None:
            await self._gateway.stop()
        self._leaving = True
        self._channel.close()
        await self._left.wait()
        return self._exit_code

    async def resolve(self, sandbox_id: str) -> Resolution:
        """Asks the first process; what it publishes is here before its answer is (gateway.table.Resolver)."""
        return await self._ask(Ask(sandbox_id, wake=False))

    async def wake(self, sandbox_id: str) -> Resolution:
        """Has the first process resume the sandbox; its route says so before the answer does."""
        return await self._ask(Ask(sandbox_id, wake=True))

    async def _ask(self, question: Ask) -> Resolution:
        answer = self._asked.get(question)
        if answer is None:
            answer = self._asked[question] = asyncio.get_running_loop().create_future()
            self._channel.send(question)
        return await asyncio.shield(answer)

    # What the first process says.

    def _take(self, message: Message) -> None:
        match message:
            case Put():
                self._table.put(message.route())
            case Gone():
                self._remove(message)
            case Synced():
                self._table.synced = message.synced
            case Answer():
                self._asked.pop(message.to).set_result(message.resolution)
            case Drain():
                self._drain(message.grace)
            case _:
                self._adjust(message)

    def _adjust(self, message: Message) -> None:
        match message:
            case Setup():
                self._build(message)
            case Loaded():
                self._serving = asyncio.get_running_loop().create_task(self._serve())
            case Secrets() if self._gateway is not None:
                self._gateway.set_keyring(Keyring(message.keys))
                self._gateway.set_own_keys(message.own, message.entering, message.viewers)
            case NewCertificate():
                self._refresh()
            case LogLevel():
                logging.getLogger().setLevel(message.level)

    def _remove(self, gone: Gone) -> None:
        key = gone.id.encode("ascii")
        if self._table.get(key) is None:
            self._table.bury(key, gone.reason, gone.owner)
        else:
            self._table.remove(gone.id, gone.reason)

    def _applied(self) -> None:
        self._channel.send(Applied(self._channel.taken))

    def _lost(self) -> None:
        if not self._leaving:
            # Not a moment longer: there is nothing to put in order, and every route may be out of date.
            os._exit(FEED_LOST)
        self._left.set()

    # Serving.

    def _build(self, setup: Setup) -> None:
        logging.getLogger().setLevel(setup.log_level)
        if setup.options.access_log_sample is not None:
            _write_access_log(setup.access_log_file)
        self._setup = setup
        gateway = Gateway(
            self._table,
            setup.options,
            resolver=self,
        )
        gateway.share_guesses(setup.processes)
        gateway.pass_api_through(self._door)
        self._gateway = gateway
        self._reporter = UsageReporter(self._table, gateway.counters)

    async def _serve(self) -> None:
        setup, gateway = self._setup, self._gateway
        if setup is None or gateway is None or self._grace.done():
            return
        try:
            tls = self._load_certificate(setup)
            sockets = [sock for host, port in setup.addresses for sock in bind(host, port, reuse_port=True)]
        except OSError as error:  # ssl.SSLError is one of them
            log.error("cannot serve: %s", error)  # noqa: TRY400 - the message says it all
            self._exit_code = 1
            self._drain(0.0)
            return
        for sock in sockets:
            await gateway.listen(sock=sock, backlog=setup.backlog, tls=tls)
        gc.collect()
        gc.freeze()
        self._channel.send(Serving())

    def _load_certificate(self, setup: Setup) -> ssl.SSLContext | None:
        if setup.certificate is None:
            return None
        self._certificate = Certificate(*setup.certificate)
        return self._certificate.context

    def _refresh(self) -> None:
        if self._certificate is None:
            return
        try:
            self._certificate.refresh()
        except OSError as error:
            log.error("the TLS certificate cannot be used, the old one stays: %s", error)  # noqa: TRY400

    def _drain(self, grace: float | None) -> None:
        if not self._grace.done():
            own = self._setup.grace if self._setup is not None else 0.0
            self._grace.set_result(own if grace is None else grace)

    # Reporting.

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self._report()

    async def _report(self) -> None:
        if self._reporter is not None:
            for part in self._reporter.take():
                self._channel.send(part)
                await asyncio.sleep(0)


class _FeedHandler(logging.Handler):
    """Sends log lines to the first process, which writes them where it writes its own."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send(LogLine(record.levelno, record.name, self.format(record)))


def _log_through(channel: Channel) -> None:
    root = logging.getLogger()
    root.handlers.clear()
    root.addHandler(_FeedHandler(channel))


def _write_access_log(path: str | None) -> None:
    """Lines go straight to their place: there may be many, and each is whole. The first process turns the files."""
    handler: logging.Handler = logging.StreamHandler(sys.stdout)
    if path is not None:
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    access = logging.getLogger("gateway.access")
    access.propagate = False
    access.setLevel(logging.INFO)
    access.addHandler(handler)


async def serve(feed: socket.socket, door: socket.socket) -> int:
    """Runs a worker on the running loop; returns its exit code."""
    return await Worker(door).run(feed)


def main() -> int:
    """The process."""
    # Whoever interrupts or hangs up the group means the first process, which tells its workers what to do.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    feed, door = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for sock in (feed, door):
        sock.setblocking(False)
    with contextlib.closing(door):
        return uvloop.run(serve(feed, door))


if __name__ == "__main__":
    sys.exit(main())
