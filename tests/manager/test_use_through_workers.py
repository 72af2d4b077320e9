"""A sandbox that is used through a worker process lives on, and stays awake, as if the first process had served it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.table import SandboxRoute
from gateway.upstream.targets import Targets
from manager.domain.sandbox import SandboxState
from manager.services.idle import IdlePause
from tests.conformance.wire import Client, Peer
from tests.manager.crew import Crew, working
from tests.manager.harness import START, House, open_house, wish

pytestmark = pytest.mark.timeout(60)
LIVES = 60
EXTENDED = 3600
"""So much longer that no pause of a busy machine makes a difference."""
RENEWING = {"access.renew.extend.seconds": str(EXTENDED)}
SLEEPY = {"access.pause.after.idle.seconds": "30"}
SKIP = b"OpenSandbox-Access-Renew: skip\r\n"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Running services on a fake runtime."""
    async with open_house(tmp_path) as made:
        yield made


@pytest.fixture
async def crew(house: House) -> AsyncIterator[Crew]:
    """Two workers that serve the sandboxes of the services; this process does not listen."""
    async with working(Crew(2, table=house.table)) as made:
        await made.all_serve()
        yield made


async def create(house: House, crew: Crew, extensions: dict[str, str]) -> SandboxRoute:
    """A sandbox whose ports are this machine's."""
    made = await house.services.creation.create(wish(timeout=LIVES, extensions=extensions))
    route = house.table.put(SandboxRoute(made.id, made.uid, Targets("127.0.0.1")))
    await crew.workers.settled()
    return route


async def send(crew: Crew, route: SandboxRoute, extra: bytes = b"") -> Client:
    """One request to the sandbox, to whichever worker the kernel chooses; the answer is still to be read."""
    line = b"OpenSandbox-Ingress-To: %b-%d\r\n" % (route.id, crew.backend_port)
    client = await crew.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (line, extra))
    return client


async def lives(house: House, route: SandboxRoute) -> timedelta:
    """For how long, from the beginning."""
    sandbox = await house.services.sandboxes.get(route.id.decode())
    assert sandbox.expires_at is not None
    return sandbox.expires_at - START


async def test_use_extends(house: House, crew: Crew) -> None:
    """A request through a worker renews a sandbox that asked for it."""
    route = await create(house, crew, RENEWING)
    client = await send(crew, route)
    assert (await client.message()).status == 200
    await crew.until(lambda: route.requests == 1)
    await house.services.renewal.sweep()
    assert timedelta(seconds=EXTENDED / 2) < await lives(house, route) <= timedelta(seconds=EXTENDED)


async def test_a_request_may_decline(house: House, crew: Crew) -> None:
    """A request that says so renews nothing, and its word does not reach the sandbox."""
    route = await create(house, crew, RENEWING)
    client = await send(crew, route, SKIP)
    assert (await client.message()).status == 200
    await crew.until(lambda: route.requests == 1)
    await house.services.renewal.sweep()
    assert await lives(house, route) == timedelta(seconds=LIVES)
    assert crew.backend.seen[-1].all(b"opensandbox-access-renew") == []


async def test_open_streams_keep_awake(house: House, crew: Crew) -> None:
    """What is open in a worker is use, however long nothing moves; after its end the sandbox may sleep."""

    async def hold(peer: Peer) -> None:
        await peer.message()
        await looked.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    services, ahead, looked = house.services, 0.0, asyncio.Event()
    loop = asyncio.get_running_loop()
    idle = IdlePause(services.inventory, services.sandboxes, house.table, services.tasks, lambda: loop.time() + ahead)
    services.inventory.listen(idle.on_change)
    route = await create(house, crew, SLEEPY)
    crew.backend.play = hold
    client = await send(crew, route)
    await crew.until(lambda: route.open == 1)
    ahead = 1000.0
    await idle.sweep()
    assert await state(house, route) is SandboxState.RUNNING
    looked.set()
    assert (await client.message()).status == 200
    await crew.until(lambda: route.open == 0)
    await idle.sweep()
    assert await state(house, route) is SandboxState.PAUSED


@pytest.mark.parametrize("way", ["finish", "abort", "reset"])
async def test_tunnels_whose_client_goes(house: House, crew: Crew, way: str) -> None:
    """A WebSocket whose client goes without a word is over in its worker, and counted nowhere."""

    async def switch(peer: Peer) -> None:
        await peer.message(body=False)
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await peer.until_end()

    route = await create(house, crew, {})
    crew.backend.play = switch
    client = await send(crew, route, b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    await crew.until(lambda: route.open == 1)
    getattr(client, way)()
    await crew.until(lambda: route.open == 0 and crew.backend.ended == 1)
    await crew.until(lambda: not any(worker.ledger.counters.connections for worker in crew.workers.live))


async def state(house: House, route: SandboxRoute) -> SandboxState:
    """What the API tells of it."""
    return (await house.services.sandboxes.get(route.id.decode())).status.state
