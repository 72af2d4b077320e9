"""Warm pools: containers that run before they are requested, each under the id that its sandbox will have.

Labels of a container cannot be changed, so the labels of the sandbox that takes one are written to a small volume, the
claim: it is created atomically and removed with the container. Stock are therefore all containers with a pool's label
and without a claim; after a kill the server finds them again from that alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from manager.domain import errors
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.quantities import parse_limits
from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker import labels
from manager.runtime.docker.container_cache import ContainerCache
from manager.runtime.docker.create import Tools
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.isolation import isolated
from manager.runtime.docker.spec import DEFAULT_ENTRYPOINT, container_name, entrypoint
from manager.settings.docker import PoolSettings

log = logging.getLogger(__name__)
POOL_REF = "poolRef"
RESERVED_FOR = 30.0
"""Seconds for which a reserved id waits for its create."""
LOOK_EVERY = 30.0
"""Seconds between two checks of stock against the current image and settings."""
DRAIN_LIMIT = 10.0
"""Seconds for which a shutdown waits for a container that is being created."""
Make = Callable[[SandboxSpec, Tools, tuple[str, str]], Awaitable[object]]


@dataclass
class Stock:
    """One pool: ids of its stock, of reserved containers (id → deadline), and their template."""

    settings: PoolSettings
    free: deque[str] = field(default_factory=deque)
    reserved: dict[str, float] = field(default_factory=dict)
    template: str = ""


def pool_spec(spec: SandboxSpec, name: str, pool: PoolSettings) -> SandboxSpec:
    """The request completed from its pool. Raises Invalid naming the first field in which it differs."""
    differing = {
        "image.uri": spec.image not in (None, pool.image),
        "entrypoint": bool(spec.entrypoint) and spec.entrypoint not in (DEFAULT_ENTRYPOINT, pool.entrypoint),
        "resourceLimits": bool(spec.resource_limits) and _other_limits(spec.resource_limits, pool.resource_limits),
        "resourceRequests": bool(spec.resource_requests),
        "env": bool(spec.env),
        "volumes": bool(spec.volumes),
        "networkPolicy": spec.network_policy is not None,
        "snapshotId": spec.snapshot_id is not None,
        "platform": spec.platform is not None,
        "secureRuntime": spec.secure_runtime,
        "extensions": isolated(spec),
    }
    for key, differs in differing.items():
        if differs:
            raise errors.Invalid(
                INVALID_PARAMETER, f"{key}: differs from pool '{name}'; leave it out, or leave out poolRef."
            )
    return replace(
        spec, image=pool.image, entrypoint=tuple(pool.entrypoint), resource_limits=dict(pool.resource_limits)
    )


def _other_limits(asked: Mapping[str, str], pool: Mapping[str, str]) -> bool:
    """By amount: "512Mi" and "0.5Gi" are the same."""
    return parse_limits(asked) != parse_limits(pool)


class Pools:
    """Keeps stock and assigns it to creates."""

    def __init__(
        self, pools: Mapping[str, PoolSettings], calls: Calls, cache: ContainerCache, tools: Tools, make: Make
    ) -> None:
        """`make` creates and starts the container of a spec, for the pool and template given."""
        self._stocks = {name: Stock(pool) for name, pool in pools.items()}
        self._calls = calls
        self._cache = cache
        self._tools = tools
        self._make = make
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._under_way: asyncio.Future[object] | None = None

    # handing out

    def __contains__(self, name: str) -> bool:
        """Whether a pool of this name is configured."""
        return name in self._stocks

    def of(self, spec: SandboxSpec) -> str | None:
        """The pool that a request names. Raises Invalid when there is none of that name."""
        name = spec.extensions.get(POOL_REF)
        if name is not None and name not in self:
            known = ", ".join(sorted(self._stocks)) or "none"
            raise errors.Invalid(
                INVALID_PARAMETER, f"extensions.poolRef: there is no pool '{name}' (configured: {known})."
            )
        return name

    def completed(self, spec: SandboxSpec) -> SandboxSpec:
        """The request completed from its pool. Raises Invalid where the two differ."""
        name = self.of(spec)
        return spec if name is None else pool_spec(spec, name, self._stocks[name].settings)

    def tools(self, spec: SandboxSpec) -> Tools:
        """The tools of a create of this request: a pool may be on another network and have mounts."""
        name = self.of(spec)
        return self._tools if name is None else self._tools_of(self._stocks[name].settings)

    def reserve(self, extensions: Mapping[str, str]) -> str | None:
        """The id of a container in stock, reserved for a create that follows soon; None when there is none."""
        stock = self._stocks.get(extensions.get(POOL_REF, ""))
        if stock is None or not stock.free:
            return None
        sandbox_id = stock.free.popleft()
        stock.reserved[sandbox_id] = time.monotonic() + RESERVED_FOR
        self._wanted.set()
        return sandbox_id

    async def claim(self, spec: SandboxSpec) -> bool:
        """Makes a container in stock the sandbox of this request; False when the id is not of one, or it has died."""
        name = self.of(spec)
        if name is None or spec.id not in self._stocks[name].reserved:
            return False
        try:
            return await self._claim(spec, name)
        finally:
            self._stocks[name].reserved.pop(spec.id, None)

    async def _claim(self, spec: SandboxSpec, name: str) -> bool:
        volume = claim_name(spec.id)
        said = labels.sandbox_labels(
            spec, self._tools.profile.instance, entrypoint=entrypoint(spec), volumes=(volume,), pool=(name, "")
        )
        marks = {labels.CLAIM: name, labels.VOLUME_FOR: spec.id}
        details, _ = await asyncio.gather(
            self._calls.inspect_container(container_name(spec.id)),
            self._calls.create_volume(volume, {**said, **marks}),
        )
        if details is None or not details["State"].get("Running"):
            await self._calls.remove_volume(volume)
            await self._calls.remove_container(container_name(spec.id))
            return False
        self._cache.claims[spec.id] = said
        return True

    # keeping stock

    async def disown(self) -> None:
        """Removes the stock of an earlier process when no pool is configured any more."""
        if not self._stocks:
            await self.adopt()

    def start(self) -> None:
        """Starts filling; called after each (re)connection, finds existing stock."""
        if self._stocks and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="docker-pools")
        self._wanted.set()

    def disturbed(self) -> None:
        """Called when a container in stock has changed."""
        self._wanted.set()

    async def drain(self) -> None:
        """Stops filling and removes the stock."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._under_way is not None:
            # A request to the Engine cannot be withdrawn: cancelled here, its container would appear after our exit.
            await asyncio.wait([self._under_way], timeout=DRAIN_LIMIT)
        waiting = [sandbox_id for stock in self._stocks.values() for sandbox_id in stock.free]
        for stock in self._stocks.values():
            stock.free.clear()
        with contextlib.suppress(errors.ManagerError):
            await asyncio.gather(*(self._calls.remove_container(container_name(one)) for one in waiting))

    async def adopt(self) -> None:
        """Adopts the stock of an earlier process: what matches the template is kept, the rest is removed."""
        await self._cache.read_claims()  # first: a claimed container that is not known as such would be assigned twice
        listed = await self._cache.entries()
        unfit: list[str] = []
        for stock in self._stocks.values():
            stock.free.clear()
        for sandbox_id, entry in listed.sandboxes.items():
            if not self._cache.is_stock(sandbox_id, entry["Labels"]) or entry["State"] == "created":
                continue
            pool = self._stocks.get(entry["Labels"][labels.POOL])
            if pool and sandbox_id in pool.reserved:
                continue
            if pool and entry["State"] == "running" and entry["Labels"][labels.POOL_TEMPLATE] == pool.template:
                pool.free.append(sandbox_id)
            else:
                unfit.append(entry["Id"])
        await asyncio.gather(*(self._calls.remove_container(container_id) for container_id in unfit))

    async def _keep(self) -> None:
        said = ""
        while True:
            self._wanted.clear()
            try:
                await self._look()
                await self._fill()
            except errors.ManagerError as error:
                if error.message != said:
                    log.warning("a pool could not be filled, trying again: %s", error.message)
                said = error.message
            else:
                said = ""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wanted.wait()

    async def _look(self) -> None:
        """Finds another image, other settings and exited containers; releases expired reservations."""
        now = time.monotonic()
        for name, stock in self._stocks.items():
            stock.template = await self._template(name, stock.settings)
            for sandbox_id in [one for one, deadline in stock.reserved.items() if deadline < now]:
                del stock.reserved[sandbox_id]
        await self.adopt()

    async def _fill(self) -> None:
        for name, stock in self._stocks.items():
            while len(stock.free) < stock.settings.size:
                spec = self._spec(name, stock.settings)
                made = self._make(spec, self._tools_of(stock.settings), (name, stock.template))
                self._under_way = asyncio.ensure_future(made)
                self._under_way.add_done_callback(partial(_count, stock, spec.id))
                await asyncio.shield(self._under_way)

    async def _template(self, name: str, pool: PoolSettings) -> str:
        """Changes with everything that the containers of a pool are made from."""
        tools = self._tools_of(pool)
        image = await tools.images.ensure(pool.image, platform=None, auth=None, progress=log.info)
        kit = await tools.execd.kit(None)
        text = repr((name, pool, tools.profile, tools.pool_binds, image["Id"], kit.image_id))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _tools_of(self, pool: PoolSettings) -> Tools:
        profile = self._tools.profile
        mode = pool.network_mode or profile.network_mode
        return replace(self._tools, profile=replace(profile, network_mode=mode), pool_binds=tuple(pool.volumes))

    @staticmethod
    def _spec(name: str, pool: PoolSettings) -> SandboxSpec:
        return SandboxSpec(
            id=str(uuid.uuid4()),
            created_at=datetime.now(UTC),
            expires_at=None,
            image=pool.image,
            entrypoint=tuple(pool.entrypoint),
            resource_limits=dict(pool.resource_limits),
            extensions={POOL_REF: name},
        )


def _count(stock: Stock, sandbox_id: str, made: asyncio.Future[object]) -> None:
    """Adds a created container to the stock, also when the create's task was cancelled meanwhile."""
    if not made.cancelled() and made.exception() is None:
        stock.free.append(sandbox_id)


def claim_name(sandbox_id: str) -> str:
    """The volume that says whose sandbox a pooled container has become."""
    return f"opensandbox-claim-{sandbox_id}"
