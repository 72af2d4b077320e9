"""Sandboxes that come, change and go while requests for them fly, and connections that end at any moment.

What happens when is left to chance, from a fixed seed; what has to hold is not: nobody gets the bytes of a life that
was over before the request began, and afterwards every count is zero.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from gateway.limits import Limits
from gateway.table import Removal, SandboxRoute
from gateway.upstream.targets import Targets
from tests.conformance.address import SANDBOX, Form
from tests.conformance.harness import World, running
from tests.conformance.wire import OK, Backend, Client, Peer, Reply

SANDBOXES = 100
BACKENDS = 5
GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"


class Boxes:
    """A hundred sandboxes; whoever serves the life `n` of one says the number of its backend."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.backends = [Backend() for _ in range(BACKENDS)]
        self.ports: list[int] = []
        self.lives = [0] * SANDBOXES
        self.outcomes: Counter[str] = Counter()

    async def start(self) -> None:
        for number, backend in enumerate(self.backends):
            backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
            self.ports.append(await backend.start())
        for number in range(SANDBOXES):
            self.begin_life(number)

    def begin_life(self, number: int) -> None:
        life = self.lives[number] = self.lives[number] + 1
        reach = Targets(published={8080: ("127.0.0.1", self.ports[(number + life) % BACKENDS])})
        self.world.table.put(SandboxRoute(f"box{number}", str(life), reach))

    async def churn(self) -> None:
        """Removes and replaces them for ever."""
        while True:
            number = self.chance.randrange(SANDBOXES)
            if self.chance.random() < 0.5:
                self.world.table.remove(f"box{number}", self.chance.choice(list(Removal)))
                await asyncio.sleep(0)
            self.begin_life(number)
            await asyncio.sleep(0)

    async def ask_on(self, requests: int) -> None:
        """One client that asks sandboxes by chance; a cut connection is replaced."""
        client = await self.world.connect()
        for _ in range(requests):
            number = self.chance.randrange(SANDBOXES)
            before = self.lives[number]
            try:
                answer = await client.ask(self.chance.choice(list(Form)).write(GET, f"box{number}"))
            except ConnectionError:
                self.outcomes["cut"] += 1
                client = await self.world.connect()
                continue
            if answer.status == 200 and answer.complete:
                lives = range(before, self.lives[number] + 1)
                assert int(answer.body) in {(number + life) % BACKENDS for life in lives}
            self.outcomes["200" if answer.status == 200 else "refused"] += 1


async def test_a_hundred_sandboxes_under_traffic() -> None:
    """Whatever becomes of the sandboxes, each answer is from a life that the request has seen, and nothing is left."""
    async with running(World(Limits(connect_budget=0.0))) as world:
        boxes = Boxes(world, seed=1)
        await boxes.start()
        churning = asyncio.ensure_future(boxes.churn())
        await asyncio.gather(*(boxes.ask_on(25) for _ in range(16)))
        churning.cancel()
        assert sum(boxes.outcomes.values()) == 400
        assert boxes.outcomes["200"] > 50
        for client in world._clients:
            await client.close()
        await world.until(lambda: not world.gateway._plane.clients)
        for number in range(SANDBOXES):
            world.table.remove(f"box{number}", Removal.DELETED)
        await world.until(lambda: world.connections() == 0)
        assert not any(route.live for route in world.table)
        assert not world.gateway._plane._tasks
        for backend in boxes.backends:
            await backend.stop()


POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = [
    GET,
    GET * 20,
    GET[:-2] + b"X: ",
    GET.replace(b"{path}/x", b"/nowhere") * 20,
    POST + b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n",
    UPGRADE + b"\x82\x80aaaa" * 700,
]
ANSWERS = [OK, CHUNKED + b"1\r\nx\r\n" * 3000, SWITCH + b"\x82\x00" * 700, b"HTTP/1.1 200 OK\r\n\r\nx", b""]


async def test_any_end() -> None:
    """Connections of several addresses that end anywhere leave no count, task or connection behind, and no error."""
    chance = random.Random(2)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    async def play(peer: Peer) -> None:
        while True:
            await peer.message(body=chance.random() < 0.5)
            await peer.send(chance.choice(ANSWERS))
            if chance.random() < 0.5:
                if chance.random() < 0.5:
                    peer.reset()
                return

    async def end_somehow(world: World) -> None:
        client = await Client.connect(world.port, source=f"127.0.0.{chance.randrange(2, 6)}")
        data = chance.choice(list(Form)).write(chance.choice(REQUESTS))
        client._writer.write(data[: chance.randrange(2 * len(data))])
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            world.put(uid=str(chance.random()))
        if client._writer.transport.is_closing():
            return
        chance.choice([Client.reset, Client.abort, Client.finish])(client)
        await client.close()

    limits = Limits(connect_budget=0.0, max_client_connections=20, max_client_heads=5, client_requests_per_second=500)
    async with running(World(limits)) as world:
        world.backend.play = play
        for _ in range(12):
            await asyncio.gather(*(end_somehow(world) for _ in range(30)))
        plane, counters = world.gateway._plane, world.gateway.counters
        await world.until(lambda: not plane.clients and not plane._tasks)
        assert (counters.connections, counters.tunnels, counters.client_addresses) == (0, 0, 0)
        assert not plane.callers._callers
        await world.until(lambda: not plane.deadlines.held)
        route = world.table.get(SANDBOX.encode())
        assert route is not None
        assert not route.live
        pools = route.pools.values()
        await world.until(lambda: sum(pool.connections for pool in pools) == world.connections())
        assert errors == []
