"""Many at once on a real Engine: nothing is lost or made twice, operations on one sandbox take turns, all end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import docker
import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.conftest import end_server
from tests.server_process import SANDBOX_IMAGE, ServerProcess

pytestmark = pytest.mark.timeout(240)
CREATES, PULLS, ROUNDS = 64, 20, 5
PATIENCE = 180.0
"""Seconds after which something waits for itself."""
STATE_NAMED = re.compile(r"is (Running|Pausing|Paused|Resuming|Stopping): (pause|resume) is not possible")


class Caller:
    """One who asks for many things at once."""

    def __init__(self, session: ClientSession, server: ServerProcess) -> None:
        self._session = session
        self._server = server

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one answer."""
        async with self._session.request(method, f"{self._server.url}/v1{path}", json=body) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else None

    async def create(self, image: str = SANDBOX_IMAGE) -> tuple[int, Any]:
        """One create, answered when it runs."""
        body = {"image": {"uri": image}, "entrypoint": ["tail", "-f", "/dev/null"], "timeout": 600}
        return await self.call("POST", "/sandboxes", {**body, "resourceLimits": {}})

    async def shown(self) -> dict[str, str]:
        """What a list shows: states by id."""
        status, listed = await self.call("GET", "/sandboxes?pageSize=200")
        assert status == 200, listed
        return {each["id"]: each["status"]["state"] for each in listed["items"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, images: tuple[str, str]) -> Iterator[ServerProcess]:
    """A server for all of this file."""
    started = ServerProcess(tmp_path_factory.mktemp("concurrency"), {}).start()
    yield started
    end_server(started)


@pytest.fixture
async def caller(server: ServerProcess) -> AsyncIterator[Caller]:
    """Somebody with as many connections as it takes, who leaves nothing behind; what hangs for ever fails."""
    async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(PATIENCE)) as session:
        made = Caller(session, server)
        yield made
        await asyncio.gather(*(made.call("DELETE", f"/sandboxes/{sandbox}") for sandbox in await made.shown()))


def containers(engine: docker.APIClient, server: ServerProcess) -> int:
    """How many sandboxes of the server the Engine has."""
    mine = [f"opensandbox.io/instance={server.instance}", "opensandbox.io/id"]
    return len(engine.containers(all=True, filters={"label": mine}))


async def test_many_creates_then_many_deletes(caller: Caller, server: ServerProcess, engine: docker.APIClient) -> None:
    """Each create makes its own; what is deleted is in no list from its answer on, and what is not stays in all."""
    made = await asyncio.gather(*(caller.create() for _ in range(CREATES)))
    assert Counter(status for status, _ in made) == {202: CREATES}, [body for status, body in made if status != 202]
    ids = [body["id"] for _, body in made]
    assert await caller.shown() == dict.fromkeys(ids, "Running")
    assert containers(engine, server) == len(set(ids)) == CREATES

    gone: set[str] = set()
    staying = set(ids[CREATES // 2 :])

    async def delete(sandbox: str) -> None:
        assert (await caller.call("DELETE", f"/sandboxes/{sandbox}"))[0] == 204
        gone.add(sandbox)

    deletes = asyncio.gather(*(delete(sandbox) for sandbox in ids if sandbox not in staying))
    lists = 0
    while not deletes.done():
        before = set(gone)
        shown = await caller.shown()
        assert not before & set(shown)
        assert staying <= set(shown)
        lists += 1
    await deletes
    assert lists > 1
    assert await caller.shown() == dict.fromkeys(staying, "Running")
    assert containers(engine, server) == len(staying)


async def test_conflicting_operations_take_turns(
    caller: Caller, server: ServerProcess, engine: docker.APIClient
) -> None:
    """Pause and resume at once: some come through, the others are 409 with the state; what is shown is what is."""
    _, made = await caller.create()
    path = f"/sandboxes/{made['id']}"
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*(caller.call("POST", f"{path}/{verb}") for verb in ["pause", "resume"] * 6))
        assert_in_turn(answers)
        state = (await caller.call("GET", path))[1]["status"]["state"]
        actual = engine.inspect_container(f"sandbox-{made['id']}")["State"]["Status"]
        assert (state, actual) in {("Running", "running"), ("Paused", "paused")}


def assert_in_turn(answers: list[tuple[int, Any]]) -> None:
    """At least one came through, and whoever did not was told why."""
    statuses = Counter(status for status, _ in answers)
    assert statuses[202] >= 1
    assert statuses[202] + statuses[409] == len(answers), answers
    for status, body in answers:
        assert status == 202 or STATE_NAMED.search(body["message"]), body


@pytest.mark.parametrize("state", ["Running", "Paused"])
async def test_a_delete_ends_what_conflicts(
    caller: Caller, server: ServerProcess, engine: docker.APIClient, state: str
) -> None:
    """Deletes among pauses and resumes: one of them is 204, and whoever comes too late hears 404."""
    _, made = await caller.create()
    path = f"/sandboxes/{made['id']}"
    if state == "Paused":
        assert (await caller.call("POST", f"{path}/pause"))[0] == 202
    asked = [("POST", "/pause"), ("DELETE", ""), ("POST", "/resume")] * 4
    answers = await asyncio.gather(*(caller.call(method, path + tail) for method, tail in asked))
    deletes = Counter(status for (method, _), (status, _) in zip(asked, answers, strict=True) if method == "DELETE")
    assert deletes == {204: 1, 404: 3}
    assert {status for status, _ in answers} <= {202, 204, 404, 409}
    assert (await caller.call("GET", path))[0] == 404
    assert containers(engine, server) == 0


async def test_a_delete_amid_creation(caller: Caller, server: ServerProcess, engine: docker.APIClient) -> None:
    """Sandboxes that are deleted while they are made are gone when all is done, and nothing of them stays."""
    creates = [asyncio.create_task(caller.create()) for _ in range(8)]
    async with asyncio.timeout(PATIENCE):
        while len(pending := await caller.shown()) < len(creates):
            pass
    statuses = [(await caller.call("DELETE", f"/sandboxes/{sandbox}"))[0] for sandbox in pending]
    assert statuses == [204] * len(creates)
    await asyncio.gather(*creates)
    assert await caller.shown() == {}
    assert containers(engine, server) == 0


class Registry(ThreadingHTTPServer):
    """One that says who it is and then nothing more until it is let go."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hanging)
        self.over = threading.Event()
        self.asked: list[str] = []


class _Hanging(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        if self.path != "/v2/":
            self.server.asked.append(self.path)
            self.server.over.wait()
        with contextlib.suppress(OSError):
            self.send_response(200 if self.path == "/v2/" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def hanging() -> Iterator[Registry]:
    """A registry whose pulls never end."""
    with Registry() as registry:
        threading.Thread(target=registry.serve_forever, daemon=True).start()
        yield registry
        registry.over.set()
        registry.shutdown()


async def test_everybody_is_answered_while_pulls_hang(caller: Caller, hanging: Registry) -> None:
    """Twenty creates wait for a registry that never answers: whoever looks, lists, makes or deletes does not."""
    address = f"127.0.0.1:{hanging.server_port}"
    waiting = [asyncio.create_task(caller.create(f"{address}/hang/{number}:1")) for number in range(PULLS)]
    async with asyncio.timeout(PATIENCE):
        while len(set(hanging.asked)) < PULLS:
            await caller.shown()
    for sandbox in await caller.shown():
        status, one = await caller.call("GET", f"/sandboxes/{sandbox}")
        assert (status, one["status"]["state"]) == (200, "Pending")
    status, made = await caller.create()
    assert (status, len(await caller.shown())) == (202, PULLS + 1)
    for path in ("/pause", "/resume"):
        assert (await caller.call("POST", f"/sandboxes/{made['id']}{path}"))[0] == 202
    assert (await caller.call("DELETE", f"/sandboxes/{made['id']}"))[0] == 204
    assert not any(create.done() for create in waiting)
    hanging.over.set()
    assert {status for status, _ in await asyncio.gather(*waiting)} <= {404, 500, 503}
