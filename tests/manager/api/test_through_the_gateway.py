"""Limits, sleep and revocation where they are felt: requests through the gateway to a program behind a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from manager.api.app import build_app
from manager.domain.sandbox import Addresses
from manager.gateway_options import build_gateway
from tests.manager.api.conftest import plain
from tests.manager.harness import House, open_house, until

PORT = 8080


@dataclass
class Door:
    """The server from outside, and the house behind it."""

    session: ClientSession
    url: str
    house: House
    backend: int

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and text."""
        async with self.session.request(method, self.url + path, **options) as response:
            return response.status, await response.text()

    async def make(self, **extensions: str) -> str:
        """A sandbox whose port leads to the program."""
        names = {key.replace("_", "."): value for key, value in extensions.items()}
        async with self.session.post(f"{self.url}/v1/sandboxes", json=plain(extensions=names)) as response:
            made = await response.json()
        box = self.house.runtime.sandboxes[made["id"]]
        addresses = Addresses(published={PORT: ("127.0.0.1", self.backend)})
        self.house.runtime.appear(replace(box, addresses=addresses))
        return str(made["id"])

    async def visit(self, sandbox_id: str, path: str = "/", method: str = "GET", port: int = PORT) -> int:
        """The status of one request to the program."""
        return (await self.call(method, f"/sandboxes/{sandbox_id}/proxy/{port}{path}"))[0]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Gateway, API and services on one loop, with a program that answers everything."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.path_qs}")

    program = web.Application()
    program.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(program) as backend, open_house(tmp_path) as house, ClientSession() as session:
        runner = web.AppRunner(build_app(house.services, house.services.settings), access_log=None)
        await runner.setup()
        assert runner.server is not None
        assert backend.port is not None
        gateway = build_gateway(house.services.settings, house.table, house.services)
        gateway.mount(runner.server)
        await gateway.listen("127.0.0.1", 0)
        host, port = gateway.addresses[0]
        yield Door(session, f"http://{host}:{port}", house, backend.port)
        await session.close()
        await gateway.stop()
        await runner.cleanup()


async def test_a_request_gets_through(door: Door) -> None:
    """The program sees its own path."""
    box = await door.make()
    assert await door.call("GET", f"/v1/sandboxes/{box}/proxy/{PORT}/a?b=1") == (200, "GET /a?b=1")


async def test_requests_per_second(door: Door) -> None:
    """So many at once, then 429; a patch lifts it at once."""
    box = await door.make(access_limit_requests_per_second="0.01", access_limit_requests_burst="2")
    assert [await door.visit(box) for _ in range(3)] == [200, 200, 429]
    lifted = {"limits": {"access.limit.requests.per.second": None, "access.limit.requests.burst": None}}
    assert (await door.call("PATCH", f"/v1/sandboxes/{box}/access", json=lifted))[0] == 200
    assert await door.visit(box) == 200


async def test_ports_methods_and_paths(door: Door) -> None:
    """What is not listed is 403."""
    box = await door.make(access_limit_methods="GET", access_limit_paths="/api", access_limit_ports="8080")
    assert await door.visit(box, "/api/x") == 200
    assert await door.visit(box, "/apix") == 403
    assert await door.visit(box, "/api/../secret") == 403
    assert await door.visit(box, "/api", "POST") == 403
    assert await door.visit(box, "/api", port=9090) == 403


@pytest.mark.request_field("extensions.access.pause.after.idle.seconds")
async def test_waking_by_a_request(door: Door) -> None:
    """Requests that come while it sleeps are answered when it has woken, with one resume for all of them."""
    box = await door.make(access_pause_after_idle_seconds="60")
    await door.call("POST", f"/v1/sandboxes/{box}/pause")
    assert await asyncio.gather(*(door.visit(box) for _ in range(8))) == [200] * 8
    assert door.house.runtime.calls["resume"] == 1


async def test_who_did_not_ask_sleeps_on(door: Door) -> None:
    """A plain paused sandbox says that it is paused."""
    box = await door.make()
    await door.call("POST", f"/v1/sandboxes/{box}/pause")
    assert await door.visit(box) == 409
    assert door.house.runtime.calls["resume"] == 0


@pytest.mark.parametrize(("end", "status"), [("deleted", 410), ("vanished", 410), ("died", 409), ("paused", 409)])
async def test_the_address_ends_with_the_sandbox(door: Door, end: str, status: int) -> None:
    """The next request hears it, whatever has ended it."""
    box = await door.make()
    assert await door.visit(box) == 200
    await _end(door, box, end)
    assert await door.visit(box) == status


async def test_an_expired_id_is_told_alike(door: Door) -> None:
    """By the API and the gateway: 410 with the same reason; one that never was, or was deleted, is 404 to the API."""
    box, deleted = await door.make(), await door.make()
    await door.call("DELETE", f"/v1/sandboxes/{deleted}")
    door.house.clock.move(100_000)
    await asyncio.gather(*door.house.services.expiry.check())
    assert await door.visit(box) == 410
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/endpoints/80")):
        status, answer = await door.call(method, f"/v1/sandboxes/{box}{path}")
        assert (status, "DOCKER::SANDBOX_EXPIRED" in answer) == (410, True)
        assert "reached the end of its lifetime" in answer
        assert (await door.call(method, f"/v1/sandboxes/{deleted}{path}"))[0] == 404


async def test_a_deletion_is_felt_before_the_runtime_is_done(door: Door) -> None:
    """A slow runtime keeps no address alive."""
    box = await door.make()
    gate = door.house.runtime.hold("delete")
    deleting = asyncio.create_task(door.call("DELETE", f"/v1/sandboxes/{box}"))
    await until(lambda: door.house.runtime.calls["delete"] == 1)
    assert await door.visit(box) == 410
    gate.set()
    assert (await deleting)[0] == 204


async def _end(door: Door, box: str, end: str) -> None:
    runtime = door.house.runtime
    if end == "deleted":
        await door.call("DELETE", f"/v1/sandboxes/{box}")
    elif end == "paused":
        await door.call("POST", f"/v1/sandboxes/{box}/pause")
    elif end == "vanished":
        runtime.vanish(box)
    else:
        there = runtime.sandboxes[box]
        runtime.appear(replace(there, status=replace(there.status, state=type(there.status.state)("Failed"))))
