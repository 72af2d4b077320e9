"""`server.proxy_needs_key`: the proxy path is for holders of an API key, the other forms are not touched by it."""

from __future__ import annotations

import re

import pytest

from gateway.access.api_keys import GUESSES, ApiKeys
from gateway.proxy.tunnel import close_frame
from gateway.table import Removal
from tests.gateway.harness import World

PROXY = b"GET /sandboxes/abc/proxy/80/x HTTP/1.1\r\nHost: x\r\n%b\r\n"
SOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HEADER = b"GET /x HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: abc-80\r\n\r\n"
GOOD = [
    b"OPEN-SANDBOX-API-KEY: k1\r\n",
    b"Authorization: Bearer k2\r\n",
    b"authorization: bearer  k1\r\n",
    b"OPEN-SANDBOX-API-KEY: k1\r\nX-Copy: k2\r\nAuthorization: Token k2\r\n",
]
BAD = [
    b"",
    b"OPEN-SANDBOX-API-KEY: k\r\n",
    b"OPEN-SANDBOX-API-KEY: \r\n",
    b"Authorization: Basic k1\r\n",
    b"Authorization: k1\r\n",
    b"OPEN-SANDBOX-API-KEY: look\r\n",
]
UNKNOWN = PROXY.replace(b"abc", b"nobody")


OWN = b"OPEN-SANDBOX-API-KEY: k1\r\n"


@pytest.mark.parametrize(("owner", "sees"), [("ann", True), ("bob", False), ("", False)])
@pytest.mark.parametrize("end", [None, Removal.DELETED, Removal.EXPIRED])
def test_a_key_that_sees_its_own(owner: str, *, sees: bool, end: Removal | None) -> None:
    """It opens the path to what was made with it; another's sandbox, here or gone, is answered like none at all."""
    world = locked()
    world.plane.own_keys = ApiKeys([b"k1"], None, {b"k1": "ann"})
    world.table.get(b"abc").owner = owner  # type: ignore[union-attr]
    if end is not None:
        world.table.remove("abc", end)
    answers = []
    for request in (PROXY, UNKNOWN):
        client = world.connect()
        client.arrive(request % OWN)
        answers.append(re.sub(rb"(?i)(date|x-request-id): [^\r]*", b"", client.take()))
    assert answers[1][9:12] == b"404"
    if sees:
        assert answers[0][9:12] == (b"410" if end else b"")
    else:
        assert answers[0] == answers[1]


def locked() -> World:
    world = World(proxy_needs_key=True)
    world.plane.own_keys = ApiKeys([b"k1", b"k2", b"look"], [b"k1", b"k2"])
    world.stock()
    return world


@pytest.mark.defect(3)
@pytest.mark.parametrize("upgrade", [b"", SOCKET])
@pytest.mark.parametrize("credential", BAD)
def test_refused(credential: bytes, upgrade: bytes) -> None:
    """Without a key neither a request nor a WebSocket gets to the sandbox."""
    world = locked()
    client = world.connect()
    client.arrive(PROXY % (credential + upgrade))
    answer = client.take()
    assert (answer[9:12], b"INVALID_API_KEY" in answer) == (b"401", True)
    assert world.dialled[0].take() == b""


@pytest.mark.parametrize("credential", GOOD)
def test_let_in(credential: bytes) -> None:
    """Any of the keys opens the path, and none of them reaches the sandbox."""
    world = locked()
    world.connect().arrive(PROXY % credential)
    sent = world.dialled[0].take()
    assert sent.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"k1" not in sent
    assert b"k2" not in sent


def test_other_forms() -> None:
    """The other forms have their own credentials."""
    world = locked()
    world.connect().arrive(HEADER)
    assert world.dialled[0].take().startswith(b"GET /x HTTP/1.1\r\n")


def ask(world: World, request: bytes) -> bytes:
    """The status of the answer, on a connection of its own; nothing where the sandbox has been asked."""
    client = world.connect()
    client.arrive(request)
    return client.take()[9:12]


def test_nothing_is_told_before_the_key() -> None:
    """Whether a sandbox exists is known to holders of a key only."""
    world = locked()
    assert ask(world, UNKNOWN % b"") == b"401"
    assert ask(world, UNKNOWN % GOOD[0]) == b"404"


def test_guessing_is_slowed_down() -> None:
    """After twenty wrong keys from one address a key is not looked at, unless it was used from there before."""
    world = locked()
    assert ask(world, UNKNOWN % GOOD[0]) == b"404"
    for _ in range(GUESSES):
        assert ask(world, UNKNOWN % BAD[1]) == b"401"
    assert ask(world, UNKNOWN % BAD[1]) == b"429"
    assert ask(world, UNKNOWN % GOOD[1]) == b"429"
    assert ask(world, UNKNOWN % GOOD[0]) == b"404"
    assert ask(world, UNKNOWN % b"") == b"401"


@pytest.mark.parametrize(
    ("kept", "viewers", "ends"),
    [([b"k2"], {}, True), ([b"k1", b"k2"], {b"k1": "ann"}, True), ([b"k1", b"k2"], {}, False), ([b"k1"], {}, False)],
    ids=["taken back", "sees less", "stays", "another is taken back"],
)
@pytest.mark.parametrize("upgrade", [b"", SOCKET], ids=["answer", "websocket"])
def test_what_a_key_has_let_in_ends_with_it(
    kept: list[bytes], viewers: dict[bytes, str], upgrade: bytes, *, ends: bool
) -> None:
    """WebSockets and answers under way, as with the key of a signed address."""
    world = locked()
    client = world.connect()
    client.arrive(PROXY % (OWN + upgrade))
    world.dialled[0].arrive(SWITCHED if upgrade else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
    client.take()
    world.plane.take_keys(ApiKeys([b"k1", b"k2", b"look"], kept, viewers))
    if upgrade:
        assert client.take() == (close_frame(1001, b"access revoked") if ends else b"")
    else:
        assert client.closing is ends
