"""The route table: what changes takes effect before the call returns."""

from __future__ import annotations

import pytest

from gateway.table import TOMBSTONES, Removal, RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Target, Targets
from tests.gateway.harness import World


class Open:
    """Something open on a route, which remembers why it was ended."""

    def __init__(self) -> None:
        self.keys: tuple[bytes, ...] = ()
        self.bytes_in = self.bytes_out = 0
        self.since = 0.0
        self.reasons: list[Removal] = []

    def revoke(self, reason: Removal) -> None:
        self.reasons.append(reason)


def route(uid: str = "1", host: str = "192.0.2.1", state: RouteState = RouteState.RUNNING) -> SandboxRoute:
    return SandboxRoute("abc", uid, Targets(host), state=state)


def test_same_uid_in_place() -> None:
    """The same life of a sandbox keeps its object, its counters and what is open; what the manager says changes."""
    table, live = RouteTable(), Open()
    held = table.put(route())
    held.live.add(live)
    held.requests = 7
    assert table.put(route(host="192.0.2.2")) is held
    assert table.get(b"abc") is held
    assert (held.reach.host, held.requests, live.reasons) == ("192.0.2.2", 7, [])


def test_other_uid_replaces() -> None:
    """Another life behind the same id never inherits a connection: what was open on the old one is closed."""
    table, live = RouteTable(), Open()
    table.put(route("1")).live.add(live)
    new = table.put(route("2"))
    assert table.get(b"abc") is new
    assert live.reasons == [Removal.REPLACED]
    assert not new.live


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        (RouteState.RUNNING, []),
        (RouteState.STARTING, []),
        (RouteState.PAUSED, [Removal.PAUSED]),
        (RouteState.STOPPED, [Removal.STOPPED]),
    ],
)
def test_states_close_what_is_open(state: RouteState, reasons: list[Removal]) -> None:
    """A state in which the sandbox cannot answer ends what is open on it."""
    table, live = RouteTable(), Open()
    table.put(route()).live.add(live)
    held = table.put(route(state=state))
    assert (held.state, live.reasons) == (state, reasons)


CHANGES = {
    "other uid": route("2"),
    "other address": route("1", "192.0.2.2"),
    "pause": route("1", state=RouteState.PAUSED),
}


@pytest.mark.parametrize("change", ["remove", *CHANGES])
def test_idle_connections_are_dropped(change: str) -> None:
    """No idle connection outlives the address or the life it was made for, and its pool takes none back."""
    world = World()
    wire, pool = world.stock(3), world.pool
    if change == "remove":
        world.table.remove("abc", Removal.DELETED)
    else:
        world.table.put(CHANGES[change])
    assert (len(pool), pool.closed, wire.closing) == (0, True, True)


def test_same_address_keeps_idle_connections() -> None:
    """An update that leaves the address alone costs no connection."""
    world = World()
    wire = world.stock()
    world.put()
    assert (len(world.pool), wire.closing) == (1, False)


@pytest.mark.parametrize("reason", Removal)
def test_removal(reason: Removal) -> None:
    """What was removed is gone at once, everything open on it is told why, and so are later callers."""
    table, first, second = RouteTable(), Open(), Open()
    table.put(route()).live.update((first, second))
    table.remove("abc", reason)
    assert table.get(b"abc") is None
    assert table.gone(b"abc") is reason
    assert first.reasons == second.reasons == [reason]


def test_unknown_id_is_no_error() -> None:
    """Removing what is not there leaves no trace: nobody is told that something never heard of was deleted."""
    table = RouteTable()
    table.remove("never", Removal.DELETED)
    assert table.gone(b"never") is None


def test_tombstones_are_bounded() -> None:
    """Only the latest removals are remembered."""
    table = RouteTable()
    for number in range(TOMBSTONES + 3):
        table.put(SandboxRoute(f"s{number}", "1", Targets()))
        table.remove(f"s{number}", Removal.EXPIRED)
    assert [table.gone(b"s%d" % number) for number in (2, 3)] == [None, Removal.EXPIRED]


def test_coming_back() -> None:
    """An id that is published again is not gone any more."""
    table = RouteTable()
    table.put(route("1"))
    table.remove("abc", Removal.DELETED)
    table.put(route("2"))
    assert table.gone(b"abc") is None


def test_iteration_stands_still() -> None:
    """Whoever walks the table may change it."""
    table = RouteTable()
    for number in range(5):
        table.put(SandboxRoute(f"s{number}", "1", Targets()))
    for held in table:
        table.remove(held.id.decode(), Removal.DELETED)
    assert len(table) == 0


def test_not_in_sync_at_first() -> None:
    """A new table claims nothing: until the manager says so, a miss has to be asked about."""
    assert RouteTable().synced is False


@pytest.mark.parametrize(
    ("reach", "target"),
    [
        (Targets("192.0.2.1", {80: ("127.0.0.1", 9)}, ("127.0.0.1", 8)), Target("192.0.2.1", 80)),
        (Targets(None, {80: ("127.0.0.1", 9)}, ("127.0.0.1", 8)), Target("127.0.0.1", 9)),
        (Targets(None, {81: ("127.0.0.1", 9)}, ("127.0.0.1", 8)), Target("127.0.0.1", 8, b"/proxy/80")),
        (Targets(None, {81: ("127.0.0.1", 9)}), None),
        (Targets("::1", {80: ("::1", 9)}, ("::1", 8), relayed=frozenset({80})), Target("::1", 8, b"/proxy/80")),
        (Targets("::1", {80: ("::1", 9)}, relayed=frozenset({80})), None),
    ],
    ids=["address", "published port", "relay", "nothing", "relayed", "relayed by nobody"],
)
def test_best_way_first(reach: Targets, target: Target | None) -> None:
    """A port is dialled directly where that is possible, else where it is published, else through the relay.

    One that is relayed in any case is dialled in no other way.
    """
    assert reach.target(80) == target


class Notes:
    """A follower that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def on_put(self, route: SandboxRoute) -> None:
        self.told.append((route.id, route.uid, route.state))

    def on_remove(self, sandbox_id: str, reason: Removal) -> None:
        self.told.append((sandbox_id, reason))

    def on_synced(self, synced: bool) -> None:
        self.told.append(synced)


def test_followers_hear_of_every_change() -> None:
    """Whoever keeps a copy is told of each change, after it has taken effect, and of nothing else."""
    table, notes = RouteTable(), Notes()
    table.followers.append(notes)
    table.put(route())
    table.put(route(state=RouteState.PAUSED))
    table.remove("abc", Removal.EXPIRED)
    table.remove("abc", Removal.DELETED)
    table.synced = True
    running, paused = (b"abc", "1", RouteState.RUNNING), (b"abc", "1", RouteState.PAUSED)
    assert notes.told == [running, paused, ("abc", Removal.EXPIRED), True]


def test_tombstones_can_be_taken_over() -> None:
    """A copy that is made later knows why an id is gone, too."""
    table, copy = RouteTable(), RouteTable()
    table.put(route())
    table.remove("abc", Removal.EXPIRED)
    for sandbox_id, reason in table.tombstones():
        copy.bury(sandbox_id, reason)
    assert copy.gone(b"abc") is Removal.EXPIRED
