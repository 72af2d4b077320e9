"""What strangers may not do, over TLS and with several processes on one port: each is as strict as one alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import signing
from gateway.access.callers import TOLD
from gateway.access.credentials import Keyring
from gateway.workers.messages import Secrets
from tests.conformance.address import PORT, SANDBOX, Form
from tests.conformance.hostile import FROM_CLIENTS, LAST
from tests.conformance.wire import Client, Message, Peer, Reply
from tests.strangers.several import NAME, PATIENCE, Several, serving

pytestmark = pytest.mark.timeout(120)
WAYS = [(True, 1), (False, 2), (True, 2)]
SECRET = b"a secret of signatures"
INGRESS: dict[str, Any] = {
    "mode": "gateway",
    "gateway": {
        "address": "gateway.test",
        "route": {"mode": "uri"},
        "wildcard": "*.sandbox.test",
        "api_hosts": [NAME],
    },
    "secure_access": {"active_key": "k", "keys": [{"key_id": "k", "key": "YSBzZWNyZXQgb2Ygc2lnbmF0dXJlcw=="}]},
}
MOST = 40
"""Connections of all clients; half of them may be one client's."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: %b\r\n\r\n" % NAME.encode()
LIST = b"GET /v1/sandboxes HTTP/1.1\r\nHost: %b\r\n\r\n" % NAME.encode()
GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n"
WITHHELD = b'Clear-Site-Data: "cookies"\r\nX-Accel-Redirect: /etc\r\nX-Sendfile: /etc/passwd\r\n'
ORIGIN_WIDE = b'NEL: {}\r\nAlt-Svc: h2=":9"\r\n'


def named(ways: list[tuple[bool, int]]) -> list[str]:
    """What each is called."""
    return [f"{'tls' if tls else 'plain'}-{processes}" for tls, processes in ways]


@pytest.fixture(params=WAYS, ids=named(WAYS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Several]:
    """A server without a key for its API, with few connections."""
    tls, processes = request.param
    limits = {"max_connections": MOST, "connect_budget": 0.0}
    async with serving(tmp_path, tls=tls, processes=processes, ingress=INGRESS, gateway={"limits": limits}) as started:
        yield started


async def first_of(client: Client, raw: bytes) -> int:
    """The status that a connection is answered, 0 where it is closed without one."""
    try:
        return (await client.ask(raw)).status
    except ConnectionError:
        return 0


async def drink(client: Client) -> None:
    """Reads everything until the gateway closes."""
    while await client._more():
        pass


async def test_hostile_input(server: Several) -> None:
    """Whatever a client sends, the process that gets it serves its other clients as before."""
    quiet = await server.one_each()
    for name, raw in FROM_CLIENTS.items():
        for hostile in await server.one_each("127.0.0.2"):
            drinking = asyncio.ensure_future(drink(hostile))
            await hostile.send(Form.URI.write(raw) + LAST)
            assert [(await client.ask(HEALTH)).status for client in quiet] == [200] * server.processes, name
            await drinking
            await hostile.close()


async def test_connections_of_one_address(server: Several) -> None:
    """An address has half of all connections, whichever process they reach; another one is served meanwhile."""
    crowd = [await server.connect() for _ in range(3 * MOST)]
    statuses = [await first_of(client, HEALTH) for client in crowd]
    assert statuses.count(200) == MOST / 2
    others = await server.one_each("127.0.0.2")
    for raw in (HEALTH, LIST):
        assert [(await client.ask(raw)).status for client in others] == [200] * server.processes


async def test_all_connections_taken(server: Several) -> None:
    """When there is no room, health and API are 503 for whoever comes; metrics are told on their own port."""
    crowd = [await server.connect(f"127.0.0.{2 + number % 6}") for number in range(3 * MOST)]
    statuses = [await first_of(client, HEALTH) for client in crowd]
    assert statuses.count(200) == MOST
    assert {await first_of(await server.connect(), raw) for raw in (HEALTH, LIST) for _ in range(8)} <= {503, 0}
    async with asyncio.timeout(PATIENCE):
        while await scraped(server, "gateway_connections_open") < MOST:
            pass  # workers report every second
    served = [client for client, status in zip(crowd, statuses, strict=True) if status == 200]
    assert [await first_of(client, LIST) for client in served] == [200] * MOST
    for client in served:
        await client.close()
    await server.until(lambda: server.connections() <= TOLD * server.processes)
    assert [(await client.ask(HEALTH)).status for client in await server.one_each()] == [200] * server.processes


async def scraped(server: Several, name: str) -> float:
    """One value of a scrape at the metrics' own port."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        (line,) = (line for line in (await answer.text()).splitlines() if line.startswith(f"opensandbox_{name} "))
        return float(line.split()[1])


@pytest.mark.parametrize("path", ["/v1/sandboxes", "/docs", "/nothing"])
async def test_names_of_others(server: Several, path: str) -> None:
    """A name that is not the server's gets nothing from any process; its own ones do."""
    raw = b"GET %b HTTP/1.1\r\nHost: %b\r\nSec-Fetch-Site: same-origin\r\n\r\n"
    for client in await server.one_each():
        answer = await client.ask(raw % (path.encode(), b"evil.example"))
        assert (answer.status, json.loads(answer.body)["code"]) == (421, "MISDIRECTED_REQUEST")
        assert (await client.ask(raw % (path.encode(), NAME.encode()))).status in {200, 404}


@pytest.mark.parametrize(
    ("form", "withheld", "passes"),
    [(Form.HOST, WITHHELD, ORIGIN_WIDE), (Form.URI, WITHHELD + ORIGIN_WIDE, b"")],
    ids=["host", "uri"],
)
async def test_what_an_answer_may_not_say(server: Several, form: Form, withheld: bytes, passes: bytes) -> None:
    """Every process leaves out the same lines."""
    server.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok" % (withheld + passes))
    for client in await server.one_each():
        head = (await client.ask(form.write(GET % b""))).raw_head
        for line in withheld.splitlines():
            assert line.partition(b":")[0].lower() not in head.lower()
        assert all(line in head for line in passes.splitlines())


def browsing(target: bytes, host: bytes, lines: bytes = b"") -> bytes:
    """What a browser sends for somebody who opens an address."""
    accept = b"Accept: text/html\r\nUpgrade-Insecure-Requests: 1\r\n"
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (target, host, accept, lines)


def cookie_of(answer: Message) -> bytes:
    """The cookie that an answer sets, as it is sent back."""
    (line,) = answer.all(b"set-cookie")
    return line.partition(b";")[0]


async def test_cookie_of_a_signed_link(server: Several) -> None:
    """What one process has set every process takes, from pages of the port itself and from no sibling's."""
    await server.put(token=b"token")
    clients = await server.one_each()
    signature = signing.sign("k", SECRET, SANDBOX, PORT, 4_102_444_800)
    host = f"{SANDBOX}-{PORT}.sandbox.test".encode()
    own = b"Origin: %b://%b\r\nSec-Fetch-Site: same-origin\r\n" % (server.scheme.encode(), host)
    sibling = b"Origin: %b://evil-80.sandbox.test\r\nSec-Fetch-Site: same-site\r\n" % server.scheme.encode()
    for one in clients:
        entered = b"/x?opensandbox-enter=%b-%b" % (signature.expires, signature.value)
        answer = await one.ask(browsing(entered, host))
        assert answer.status == 307
        assert answer.all(b"set-cookie")[0].startswith(b"__Host-") is (server.trust is not None)
        line = b"Cookie: %b\r\n" % cookie_of(answer)
        for other in clients:
            assert (await other.ask(browsing(b"/x", host, line))).status == 200
            for lines, status in ((own, 200), (sibling, 401)):
                post = b"POST /x HTTP/1.1\r\nHost: %b\r\nContent-Length: 0\r\n%b%b\r\n" % (host, line, lines)
                assert (await other.ask(post)).status == status


async def test_key_taken_away(server: Several) -> None:
    """A WebSocket that a signature has let in ends with its key, in whichever process it is."""
    await server.put(token=b"token")
    server.backend.play = switch
    signature = signing.sign("k", SECRET, SANDBOX, PORT, 4_102_444_800)
    upgrade = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    clients = await server.one_each()
    for client in clients:
        await client.send(Form.HOST.write(upgrade, signed=signature))
        assert b" 101 " in await client.until(b"\r\n\r\n")
    server.gateway.set_keyring(Keyring())
    server.workers.set_secrets(Secrets({}, frozenset()))
    assert [await client.take(18) for client in clients] == [b"\x88\x10\x03\xe9access revoked"] * server.processes


async def switch(peer: Peer) -> None:
    """Lets a WebSocket stay open."""
    await peer.message(body=False)
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await peer.until_end()
