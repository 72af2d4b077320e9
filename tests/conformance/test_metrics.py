"""What is counted does not grow with what clients write: no part of a request is a label."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import GatewayError
from gateway.limits import Limits
from tests.conformance.address import SANDBOX, Form
from tests.conformance.harness import World, running

HOSTILE = [
    b"%(word)b {path}/x HTTP/1.1\r\n{host}\r\n\r\n",
    b"GET {path}/%(word)b HTTP/1.1\r\n{host}\r\n\r\n",
    b"GET {path}/x HTTP/1.%(digit)b\r\n{host}\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\n%(word)b: %(word)b\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\n%(word)b : x\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\nOpenSandbox-Secure-Access: %(word)b\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\nOPEN-SANDBOX-API-KEY: %(word)b\r\nX-Request-ID: %(word)b\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\nX-Forwarded-For: %(digit)b.1.1.1\r\nForwarded: for=%(word)b\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: %(word)b\r\n\r\n",
    b"GET {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: %(word)b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %(word)b.sandbox.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %(word)b-8%(digit)b.sandbox.test\r\n\r\n",
    b"GET /%(word)b/%(digit)b/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    b"GET /v1/sandboxes/%(word)b/proxy/%(digit)b/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: %(word)b\r\n\r\n",
]


def shape(value: Any) -> Any:
    """Which numbers there are, whatever they are."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else 0


def codes(kind: type[GatewayError] = GatewayError) -> set[str]:
    return {kind.code}.union(*map(codes, kind.__subclasses__()))


async def test_series_do_not_follow_what_clients_send() -> None:
    """Methods, hosts, ids, ports, versions, headers, keys and addresses: after a few of each no series is new."""
    async with running(World(Limits(connect_budget=0.0), trusted=["127.0.0.1"])) as world:
        world.put(token=b"secret")
        shapes = []
        for round_ in range(3):
            for number in range(4):
                words = {b"word": b"w%d%d" % (round_, number), b"digit": b"%d%d" % (round_ + 2, number)}
                for raw in HOSTILE:
                    for form in Form:
                        client = await world.connect()
                        await client.send(form.write(raw % words))
                        client.finish()
                        await client.close()
            await world.until(lambda: world.gateway.counters.connections == 0)
            shapes.append(shape(world.gateway.counters.snapshot()))
        assert shapes[0] == shapes[1] == shapes[2]
        assert set(world.gateway.counters.refusals) <= codes()
        assert SANDBOX not in json.dumps(world.gateway.counters.snapshot())
