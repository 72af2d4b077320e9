"""Ports behind a forwarder like the Engine's own proxy, which accepts before anybody listens behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from tests.conformance.address import Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import LIMITS, World, running
from tests.conformance.test_breaks import nothing_is_left
from tests.conformance.wire import PATIENCE, Message, Peer

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello"
UPGRADE = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
CLOSED = 3
"""How many connections the forwarder closes before somebody listens."""


class Forwarder:
    """Plays a forwarder in front of a program that listens after a while."""

    def __init__(self, world: World, *, reset: bool = False, reads: bool = False, says: bytes = b"") -> None:
        self._reset = reset
        self._reads = reads
        self._says = says
        self.closed_first = CLOSED
        self.seen: list[Message] = []
        """What came before anybody listened."""
        world.backend.play = self._serve
        self._world = world
        world.forward()

    async def _serve(self, peer: Peer) -> None:
        if self._world.backend.connections > self.closed_first:
            await peer.message()
            await peer.send(OK)
            return
        if self._reads:
            self.seen.append(await peer.message())
        if self._says:
            await peer.send(self._says)
        if self._reset:
            peer.reset()


@pytest.fixture
async def patient() -> AsyncIterator[World]:
    """A gateway that waits for ports to open."""
    async with running(World(dataclasses.replace(LIMITS, connect_budget=PATIENCE))) as made:
        yield made


def code(answer: Message) -> tuple[int, bool]:
    """Status, and whether it is that of a closed port."""
    return answer.status, b"GATEWAY::PORT_NOT_LISTENING" in answer.body


@in_each_form
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
@pytest.mark.parametrize("raw", [GET, UPGRADE], ids=["get", "handshake"])
async def test_port_that_opens_soon(patient: World, form: Form, reads: bool, reset: bool, raw: bytes) -> None:
    """A request that may be repeated waits for the port, as it does where a closed port refuses."""
    Forwarder(patient, reads=reads, reset=reset)
    client = await patient.connect()
    assert (await client.ask(form.write(raw))).body == b"ok"
    assert patient.backend.connections == CLOSED + 1


@in_each_form
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
async def test_port_that_stays_closed(world: World, form: Form, reset: bool) -> None:
    """After the connect budget it is a closed port, and nothing else."""
    Forwarder(world, reset=reset).closed_first = 1000
    client = await world.connect()
    assert code(await client.ask(form.write(GET))) == (504, True)
    assert code(await client.ask(form.write(GET))) == (504, True)
    await client.close()
    await world.until(lambda: nothing_is_left(world))


@in_each_form
@pytest.mark.parametrize("raw", [POST, POST.replace(b"POST", b"PUT")], ids=["post", "put"])
async def test_body_that_was_sent(patient: World, form: Form, raw: bytes) -> None:
    """What may have reached a program is not sent twice: the client is told 502, with both possible reasons."""
    forwarder = Forwarder(patient, reads=True)
    client = await patient.connect()
    answer = await client.ask(form.write(raw))
    assert code(answer) == (502, False)
    assert b"nothing listens" in answer.body
    assert [message.body for message in forwarder.seen] == [b"hello"]


@in_each_form
@pytest.mark.parametrize("says", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"HTTP/1.1 103 Early\r\n\r\n"])
async def test_program_that_breaks_off(patient: World, form: Form, says: bytes) -> None:
    """With the first byte of an answer there is a program, and its end is its own."""
    Forwarder(patient, says=says)
    client = await patient.connect()
    assert (await client.ask(form.write(GET))).status == 502
    assert patient.backend.connections == 1


@in_each_form
async def test_program_without_a_forwarder(patient: World, form: Form) -> None:
    """Where nobody stands in between, a connection that closes without a byte is the program's."""

    async def leave(peer: Peer) -> None:
        await peer.message()

    patient.backend.play = leave
    client = await patient.connect()
    assert code(await client.ask(form.write(GET))) == (502, False)
    assert patient.backend.connections == 1


@in_each_form
async def test_client_that_leaves_meanwhile(patient: World, form: Form) -> None:
    """Nobody tries for a client that has gone."""
    Forwarder(patient).closed_first = 1000
    client = await patient.connect()
    await client.send(form.write(GET))
    await patient.until(lambda: patient.backend.connections == CLOSED)
    await client.close()
    await patient.until(lambda: nothing_is_left(patient) and not patient.gateway._plane._tasks)
