"""A data plane with few routes and an API of one answer, in a process of its own: `… PORT PREFACED ID`.

PREFACED is a second port of the same loop, whose clients send a PROXY preface. The gateway is the one that Python
finds first: the benchmark puts the tree under measurement on PYTHONPATH, and only this file's folder is found besides.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import uvloop
from neighbours_api import Api, serve  # type: ignore[import-not-found]  # beside this file

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=b"sandboxes.example", api_hosts=frozenset())


async def main(port: int, prefaced: int, sandbox_id: str) -> None:
    """Serves until SIGTERM."""
    table = RouteTable()
    table.put(SandboxRoute(sandbox_id, "uid", Targets("127.0.0.1")))
    table.synced = True
    options = GatewayOptions(routing=ROUTING)
    prefaces = replace(options, trusted_proxies=("127.0.0.0/8",), proxy_protocol=True)
    plain, behind = Gateway(table, options, application=Api), Gateway(table, prefaces, application=Api)
    await serve(plain, behind, port, prefaced)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
