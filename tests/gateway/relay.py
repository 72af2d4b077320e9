"""The gateway between a client and a sandbox that h11 plays, and what has to hold for any bytes of either."""

from __future__ import annotations

import re
from collections.abc import Sequence

import h11

from gateway.limits import Limits
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool
from tests.gateway.harness import Wire, World
from tests.gateway.messages import ABOUT_FRAMING, ESSENTIAL, Server, read_by_h11

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ")
LIMITS = Limits(max_head_bytes=4096)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` in parts, cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[at:to] for at, to in zip([0, *places], [*places, len(data)], strict=True) if at < to]


class Ready(Pool):
    """A pool that always has a connection at hand, so that nothing has to wait."""

    def __init__(self, world: World) -> None:
        super().__init__(world.pool.connect, world.limits, world.plane.deadlines)
        self._world = world

    def take(self, replayable: bool) -> UpstreamConnection:
        return super().take(replayable) or self._world.upstream(self)


class EveryPort(dict[int, Pool]):
    """One pool for all ports of a sandbox."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool

    def get(self, port: int, default: object = None) -> Pool:
        return self._pool


def ready_world() -> World:
    """A world in which any port of the sandbox is connected at once."""
    world = World(LIMITS)
    world.pool = Ready(world)
    world.route.pools = EveryPort(world.pool)
    return world


class Relay:
    """One client connection, with servers behind the gateway that answer `200` to every whole request."""

    def __init__(self) -> None:
        self.world = ready_world()
        self.client: Wire = self.world.connect()
        self.servers: dict[int, Server] = {}
        self.answers = b""

    def send(self, parts: Sequence[bytes]) -> None:
        """Bytes of the client arrive, and everything that follows happens."""
        for part in parts:
            self.client.arrive(part)
            while self._step():
                self.client.settle()
        self.answers += self.client.take()

    def _step(self) -> bool:
        moved = False
        for number, wire in enumerate(self.world.dialled):
            if wire.sent:
                answers = self.servers.setdefault(number, Server()).receive(wire.take())
                if answers:
                    wire.arrive(answers)
                    moved = True
        return moved

    def finish(self) -> None:
        """Both sides leave; nothing of the connection may stay behind."""
        self.client.lose()
        for wire in self.world.dialled:
            wire.settle()
            wire.lose()
        counters = self.world.plane.counters
        assert (counters.connections, len(self.world.plane.clients), len(self.world.route.live)) == (0, 0, 0)

    @property
    def statuses(self) -> list[int]:
        """Of the answers, in order; 200 are the server's."""
        return [int(status) for status in STATUS_LINE.findall(self.answers)]

    @property
    def seen(self) -> list[tuple[bytes, bytes]]:
        """Methods and bodies of the whole requests that came through."""
        return [(request.method, request.body) for server in self.servers.values() for request in server.seen]


def passed(data: bytes, cuts: Sequence[int] = ()) -> Relay:
    """What comes of these bytes of a client."""
    relay = Relay()
    relay.send(split(data, cuts))
    return relay


def check_requests(data: bytes, cuts: Sequence[int] = ()) -> None:
    """Whatever reaches a sandbox is HTTP, and each request is, in number, method and body, the one h11 sees."""
    relay, direct = passed(data, cuts), read_by_h11(data)
    for server in relay.servers.values():
        assert server.refused is None, (server.refused, data)
    seen = iter(relay.seen)
    for number, status in enumerate(relay.statuses):
        if status == 200:
            assert number < len(direct.seen), f"h11 sees {len(direct.seen)} requests: {direct.refused}"
            expected = direct.seen[number]
            assert next(seen) == (expected.method, expected.body)
            if expected.version == b"1.0":
                break  # h11 ends a connection after it, where we go on when the client asks us to
    else:
        assert next(seen, None) is None
    relay.finish()


def check_answers(data: bytes, method: bytes, cuts: Sequence[int] = ()) -> None:
    """An answer that reaches the client whole is, in status and body, the one that h11 sees in the sandbox's bytes."""
    world = ready_world()
    client = world.connect()
    client.arrive(b"%b / HTTP/1.1\r\n" % method + b"\r\n".join([*ESSENTIAL, b"", b""]))
    (sandbox,) = world.dialled
    sandbox.arrive(*split(data, cuts))
    sandbox.end()
    ours = read_answer(client.take(), method, closed=client.closing or client.ended)
    direct = read_answer(data, method, closed=True)
    assert ours is not None, "the client gets no HTTP"
    statuses, _, whole = ours
    if whole and statuses[-1] != 502:
        assert direct == ours
    if direct is None:
        assert not whole or statuses[-1] == 502
    client.lose()
    assert not world.route.live


def read_answer(data: bytes, method: bytes, *, closed: bool) -> tuple[list[int], bytes, bool] | None:
    """Statuses, body and whether it was whole, as an h11 client reads it; None when h11 refuses it."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if closed:
        client.receive_data(b"")
    statuses, body = [], b""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                statuses.append(event.status_code)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return statuses, body, True
            else:
                return statuses, body, False
    except h11.RemoteProtocolError as error:
        if not statuses or statuses[-1] < 200:
            return None
        return statuses, body, ABOUT_FRAMING.search(str(error)) is not None
