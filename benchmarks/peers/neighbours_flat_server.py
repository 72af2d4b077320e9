"""The same as neighbours_server.py for trees whose `gateway/` has no folders yet, as before its turns had a bound."""
# mypy: ignore-errors

from __future__ import annotations

import sys

import uvloop
from gateway.routing import Router, RoutingConfig
from neighbours_api import Api, serve

from gateway.gateway import Gateway
from gateway.table import Reach, RouteTable, SandboxRoute

ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=b"sandboxes.example", api_hosts=frozenset())


async def main(port: int, prefaced: int, sandbox_id: str) -> None:
    """Serves until SIGTERM."""
    table = RouteTable()
    table.put(SandboxRoute(sandbox_id, "uid", Reach("127.0.0.1")))
    table.synced = True
    plain = Gateway(table, Router(ROUTING), application=Api)
    behind = Gateway(table, Router(ROUTING), application=Api, trusted_proxies=["127.0.0.0/8"], proxy_protocol=True)
    await serve(plain, behind, port, prefaced)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
