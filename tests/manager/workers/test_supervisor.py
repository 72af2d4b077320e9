"""Worker processes together: whoever a client reaches, it is one server; and no process's end is another's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.limits import Limits
from gateway.metrics import Counters
from gateway.table import Removal, RouteState
from gateway.workers.messages import Secrets
from manager.listening import bind_alone
from manager.workers.supervisor import share_of
from tests.conformance.wire import Peer
from tests.manager import crew as crew_program
from tests.manager.crew import PATIENCE, Crew, working
from tests.server_process import free_port, wait_until

pytestmark = pytest.mark.timeout(60)
REPORTS = 2
"""A report that is about to be made when something happens need not hold it; the second one does."""


@pytest.fixture
async def crew() -> AsyncIterator[Crew]:
    """Two workers that serve; this process does not listen."""
    async with working(Crew(2)) as made:
        await made.all_serve()
        yield made


async def reported(crew: Crew) -> None:
    """Waits until every worker has told everything it knows by now."""
    goals = [(worker, worker.reports + REPORTS) for worker in crew.workers.live]
    await crew.until(lambda: all(worker.reports >= goal for worker, goal in goals))


async def test_every_process_serves() -> None:
    """The first process and its workers share one port and one set of sandboxes."""
    async with working(Crew(1)) as crew:
        await crew.listen()
        await crew.all_serve()
        for client in await crew.one_each(2):
            assert (await crew.ask(client)).body == b"ok"


async def test_a_change_is_answered_once_it_is_everywhere(crew: Crew) -> None:
    """Whoever reads that a sandbox exists, or is gone, finds it so at every process."""
    clients = await crew.one_each(2)
    for _ in range(20):
        await crew.call(clients[0], "DELETE /sandbox")
        assert [(await crew.ask(client)).status for client in clients] == [410, 410]
        await crew.call(clients[1], "POST /sandbox")
        assert [(await crew.ask(client)).status for client in clients] == [200, 200]


async def test_api_calls_know_their_client(crew: Crew) -> None:
    """A call that comes by way of a worker is the client's, not the worker's."""
    for client in await crew.one_each(2):
        answer = await crew.call(client, "GET /sandbox")
        assert (answer.status, answer.body) == (200, b"127.0.0.1")


async def test_removal_reaches_tunnels_everywhere(crew: Crew) -> None:
    """Open WebSockets get their close frame in whichever process they are."""

    async def echo(peer: ServerConnection) -> None:
        async for message in peer:
            await peer.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        headers = {"OpenSandbox-Ingress-To": f"abc-{port}"}
        url = f"ws://127.0.0.1:{crew.port}"
        clients = [await connect(url, additional_headers=headers, proxy=None) for _ in range(16)]
        await reported(crew)
        assert all(worker.ledger.counters.tunnels for worker in crew.workers.live)
        crew.remove()
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001


async def test_a_killed_worker_takes_its_own_connections(crew: Crew) -> None:
    """kill -9 ends the connections of that worker and no others, and another one takes its place."""
    clients = await crew.one_each(2)
    victim = crew.workers.live[0]
    os.kill(victim.pid, signal.SIGKILL)
    await crew.until(lambda: victim not in crew.workers.live)
    ends = [await crew.ask(client) if not await _ended(client) else None for client in clients]
    assert sorted(answer is not None and answer.status == 200 for answer in ends) == [False, True]
    await crew.all_serve()
    assert victim.pid not in [worker.pid for worker in crew.workers.live]
    for client in await crew.one_each(2):
        assert (await crew.ask(client)).status == 200


async def _ended(client: object) -> bool:
    """Whether the connection has been closed by the other side."""
    stream: asyncio.StreamReader = client._stream  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(0.3):
            return await stream.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def test_counters_are_summed_and_outlive_workers(crew: Crew) -> None:
    """One scrape counts what every process has served, those that have died included."""
    for client in await crew.one_each(2):
        for _ in range(10):
            await crew.ask(client)
    await reported(crew)
    before = crew.workers.total(Counters())
    route = crew.table.get(b"abc")
    assert route is not None
    assert sum(before.responses[0]) == route.requests == len(crew.backend.seen)
    assert (before.connections, route.bytes_out) == (len(crew.clients), 2 * len(crew.backend.seen))
    victim = crew.workers.live[0]
    os.kill(victim.pid, signal.SIGKILL)
    await crew.until(lambda: victim not in crew.workers.live)
    after = crew.workers.total(Counters())
    assert after.responses == before.responses
    assert 0 < after.connections < before.connections


async def test_activity_and_what_is_open(crew: Crew) -> None:
    """What extends the life of a sandbox, or keeps it awake, is seen wherever it happens."""

    seen = asyncio.Event()

    async def hold(peer: Peer) -> None:
        await peer.message()
        await seen.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    route = crew.table.get(b"abc")
    assert route is not None
    crew.backend.play = hold
    client = await crew.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: abc-%d\r\n\r\n" % crew.backend_port)
    await crew.until(lambda: route.open == 1)
    assert 0 <= asyncio.get_running_loop().time() - route.last_active < PATIENCE
    seen.set()
    assert (await client.message()).status == 200
    await crew.until(lambda: route.open == 0)


async def test_questions_while_out_of_step(crew: Crew) -> None:
    """A worker's misses are resolved by the manager, and what goes wrong there is answered 503."""
    route = crew.put()
    crew.remove()
    crew.table.synced = False
    crew.knowing.known["abc"] = route
    await crew.workers.settled()
    client = await crew.connect()
    assert (await crew.ask(client)).status == 200
    request = b"GET / HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: %b-80\r\n\r\n"
    answers = [(await client.ask(request % name)).status for name in (b"broken", b"nobody")]
    assert answers == [503, 404]
    assert crew.knowing.asked == ["abc", "broken", "nobody"]


async def test_a_request_wakes_through_a_worker(crew: Crew) -> None:
    """A paused sandbox that wakes on requests does so for a worker's client."""
    crew.put(state=RouteState.PAUSED, wakes=True)
    await crew.workers.settled()
    assert (await crew.ask(await crew.connect())).status == 200


async def test_new_secrets_reach_all_and_those_that_come(crew: Crew) -> None:
    """Keys that change are known to every worker, and to the one that takes a dead one's place."""
    crew.workers.set_secrets(Secrets({}, frozenset({b"ours"})))
    await crew.workers.settled()
    victim = crew.workers.live[0]
    os.kill(victim.pid, signal.SIGKILL)
    await crew.until(lambda: victim not in crew.workers.live)
    await crew.all_serve()
    line = f"Authorization: Bearer ours\r\nOpenSandbox-Ingress-To: abc-{crew.backend_port}".encode()
    for client in await crew.one_each(2):
        await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % line)
        assert crew.backend.seen[-1].all(b"authorization") == []


async def test_drain(crew: Crew) -> None:
    """At the end every worker finishes what is under way, and what it has counted stays."""

    async def hold(peer: Peer) -> None:
        await peer.message()
        crew.backend.step()
        await crew.backend.next_turn()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend")

    crew.backend.play = hold
    clients = [await crew.connect() for _ in range(4)]
    asking = [asyncio.ensure_future(crew.ask(client)) for client in clients]
    for _ in asking:
        await crew.backend.next_step()
    draining = asyncio.ensure_future(crew.workers.drain(PATIENCE))
    await crew.workers.settled()
    for _ in asking:
        crew.backend.turn()
    assert [(await one).body for one in asking] == [b"end"] * 4
    await draining
    await crew.until(lambda: not crew.workers.live)
    assert sum(crew.workers.total(Counters()).responses[0]) == 4
    assert crew.workers.replaced == 0


async def test_a_stuck_worker_is_replaced() -> None:
    """A worker that says nothing any more is killed, since its clients hear nothing either."""
    async with working(Crew(1, watch_seconds=1.5)) as crew:
        await crew.all_serve()
        (victim,) = crew.workers.live
        os.kill(victim.pid, signal.SIGSTOP)
        await crew.until(lambda: victim not in crew.workers.live)
        await crew.all_serve()
        assert crew.workers.replaced == 1


async def test_changes_during_a_long_snapshot() -> None:
    """A route that changes while a worker is told thousands of others is as it is, not as it was."""
    async with working(Crew(1), routes=5000) as crew:
        await crew.until(lambda: bool(crew.workers.live))
        crew.remove()
        for number in range(0, 5000, 2):
            crew.table.remove(f"other-{number}", Removal.DELETED)
        crew.put(uid="2")
        await crew.all_serve()
        client = await crew.connect()
        assert (await crew.ask(client)).status == 200
        for number in (0, 4998, 1, 4999):
            line = b"OpenSandbox-Ingress-To: other-%d-%d\r\n" % (number, crew.backend_port)
            answer = await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % line)
            assert answer.status == (200 if number % 2 else 410)


def test_workers_end_with_the_first_process() -> None:
    """kill -9 of the first process leaves none of its workers, and the port is free."""
    port = free_port()
    command = [sys.executable, "-m", "tests.manager.crew", str(port), str(free_port())]
    root = Path(crew_program.__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as first:
        assert first.stdout is not None
        pids = [int(pid) for pid in first.stdout.readline().split()]
        assert len(pids) == 2
        first.kill()
    wait_until(lambda: not any(_lives(pid) for pid in pids), PATIENCE, "the end of the workers")
    for sock in bind_alone("127.0.0.1", port, shared=True):
        sock.close()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_shared_port_is_taken_once() -> None:
    """A second server on the port that serves is told that it is in use, although both would share it."""
    port = free_port()
    (first,) = bind_alone("127.0.0.1", port, shared=True)
    first.listen()
    with pytest.raises(OSError, match="in use"):
        bind_alone("127.0.0.1", port, shared=True)
    first.close()


def test_shares_of_the_limits() -> None:
    """What is counted is divided among the processes, rounded up; times and sizes are not."""
    limits = Limits(
        max_connections=10,
        max_client_connections=4,
        max_client_heads=0,
        max_sandbox_exchanges=1,
        pool_max_idle=0,
        head_timeout=3.0,
    )
    part = share_of(limits, 3)
    assert (part.max_connections, part.max_sandbox_exchanges, part.pool_max_idle) == (4, 1, 0)
    assert (part.max_client_connections, part.max_client_heads) == (2, 0)
    assert (part.head_timeout, part.max_url_bytes) == (3.0, limits.max_url_bytes)
    assert share_of(limits, 1) == limits
