"""The services put together: built from settings, runtime, records and route table; started and stopped as one."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from gateway.access.api_keys import KeyAttempts
from gateway.table import RouteTable
from manager.domain.codes import Codes
from manager.domain.errors import Unavailable
from manager.runtime.base import Runtime
from manager.runtime.records import Records
from manager.services.api_keys import ApiKeys, Origins, keys_of
from manager.services.capacity import Capacity
from manager.services.clock import Clock, system_clock
from manager.services.counters import Tallies
from manager.services.create import Creation
from manager.services.diagnostics import Diagnostics
from manager.services.endpoints import Endpoints
from manager.services.events import Events
from manager.services.expiry import Expiry
from manager.services.idempotency import IdempotentCreates
from manager.services.idle import IdlePause
from manager.services.inventory import Inventory
from manager.services.journal import Journal
from manager.services.locks import KeyedLocks
from manager.services.policy import Policies
from manager.services.publish import Publisher, RouteResolver
from manager.services.reconcile import Watch
from manager.services.renewal import Renewal
from manager.services.sandboxes import Sandboxes
from manager.services.snapshots import Snapshots
from manager.services.tasks import Tasks
from manager.services.waiting import Waiting
from manager.services.webhook import webhook_of
from manager.settings.exposure import is_open
from manager.settings.model import Settings

DRAIN_SECONDS = 10.0
"""Seconds for which running work may continue at shutdown."""


@dataclass(frozen=True)
class Services:
    """The services that the API and the gateway use."""

    settings: Settings
    runtime: Runtime
    codes: Codes
    inventory: Inventory
    creation: Creation
    sandboxes: Sandboxes
    snapshots: Snapshots
    endpoints: Endpoints
    diagnostics: Diagnostics
    journal: Journal
    events: Events
    waiting: Waiting
    resolver: RouteResolver
    expiry: Expiry
    watch: Watch
    records: Records
    tasks: Tasks
    tallies: Tallies
    keys: ApiKeys
    origins: Origins
    capacity: Capacity
    renewal: Renewal
    idle: IdlePause
    policies: Policies
    guesses: KeyAttempts
    table: RouteTable
    background: list[asyncio.Task[None]]

    async def start(self) -> None:
        """Reads the records, then begins to watch the runtime; returns before the runtime has answered.

        Raises Unavailable when the records cannot be read.
        """
        records = self.records
        self.snapshots.load(await records.snapshots.all())
        if earlier := await self.runtime.earlier_snapshots():
            await self.snapshots.adopt(earlier)
        await self.events.load()
        self.inventory.load(
            await records.renewals.all(),
            await records.metadata.all(),
            await records.limits.all(),
            await records.failures.all(),
            await records.pending_deletes.all(),
        )
        self.background.append(asyncio.create_task(self.expiry.run(), name="expiry"))
        self.background.append(asyncio.create_task(self.idle.run(), name="idle"))
        self.background.append(asyncio.create_task(self.events.run(), name="events"))
        if (webhook := webhook_of(self.settings, self.events, self.tallies)) is not None:
            self.background.append(asyncio.create_task(webhook.run(), name="webhook"))
        if self.settings.renew_intent.enabled:
            self.background.append(asyncio.create_task(self.renewal.run(), name="renewal"))
        self.watch.begin()
        await self.runtime.start(self.watch.on_event)

    def reload(self, settings: Settings) -> None:
        """Applies a reloaded configuration: API keys, signing keys, `max_sandboxes`, CORS origins."""
        self.keys.replace(keys_of(settings))
        self.creation.for_strangers = is_open(settings)
        self.origins.replace(settings.server.cors_origins)
        self.capacity.most = settings.server.max_sandboxes
        self.endpoints.sign_with(settings.ingress.secure_access)

    def drain(self) -> None:
        """Refuses new work from now on; `/ready` is 503."""
        self.creation.draining = True
        self.journal.close()
        self.events.close()
        self.waiting.close()

    async def stop(self) -> None:
        """Lets work that is under way end within a limit, then closes runtime and records."""
        self.drain()
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self.tasks.drain(DRAIN_SECONDS)
        await self.policies.close()
        await self.runtime.stop()
        with contextlib.suppress(Unavailable):
            await self.events.flush()
        await self.records.close()

    def degraded(self) -> str | None:
        """Why the server is degraded at present, for an operator; None when it is healthy."""
        return self.runtime.degraded() or self.watch.reason


def build_services(
    settings: Settings, runtime: Runtime, records: Records, table: RouteTable, clock: Clock = system_clock
) -> Services:
    """Puts the services together, on the loop they will run on; nothing runs before `Services.start`."""
    inventory, tasks, journal, waiting = Inventory(), Tasks(), Journal(clock, runtime.numbers), Waiting()
    publisher = Publisher(table)
    locks, tallies = KeyedLocks(), Tallies()
    keys = ApiKeys(keys_of(settings))
    capacity = Capacity(inventory, keys, settings.server.max_sandboxes)
    sandboxes = Sandboxes(runtime, records, inventory, locks, tallies, clock, publisher.has_expired)
    snapshots = Snapshots(runtime, records, sandboxes, locks, tasks, clock)
    repeats = IdempotentCreates(records, sandboxes, clock)
    steady = asyncio.get_running_loop().time
    renewal = Renewal(
        inventory,
        sandboxes,
        table,
        clock,
        min_interval=settings.renew_intent.min_interval_seconds,
        steady=steady,
    )
    idle = IdlePause(inventory, sandboxes, table, tasks, steady)
    diagnostics = Diagnostics(runtime, sandboxes, journal)
    events = Events(records.events, clock, days=settings.events.keep_days, most=settings.events.keep_events)
    expiry = Expiry(inventory, sandboxes.expire, tasks, clock)
    listeners = (
        publisher.on_change,
        expiry.on_change,
        capacity.on_change,
        renewal.on_change,
        idle.on_change,
        journal.on_change,
        waiting.on_change,
        events.on_change,
    )
    for listener in listeners:
        inventory.listen(listener)
    return Services(
        settings=settings,
        runtime=runtime,
        codes=Codes(runtime.name),
        inventory=inventory,
        creation=Creation(settings, runtime, records, inventory, snapshots, repeats, capacity, tasks, tallies, clock),
        sandboxes=sandboxes,
        snapshots=snapshots,
        diagnostics=diagnostics,
        journal=journal,
        events=events,
        waiting=waiting,
        endpoints=Endpoints(settings, runtime.name, sandboxes, clock),
        resolver=RouteResolver(runtime, inventory, idle.wake),
        expiry=expiry,
        watch=Watch(runtime, records, inventory, snapshots, tasks, publisher.synced),
        records=records,
        tasks=tasks,
        tallies=tallies,
        keys=keys,
        origins=Origins(settings.server.cors_origins),
        capacity=capacity,
        renewal=renewal,
        idle=idle,
        policies=Policies(sandboxes),
        guesses=KeyAttempts(),
        table=table,
        background=[],
    )
