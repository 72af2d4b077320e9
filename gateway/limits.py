"""One frozen record of every size, count and timeout of the data plane; `[gateway.limits]` in the configuration.

The settings model, the example configuration and the reference page are generated from these fields, so the text
beside a field is its documentation. Times are seconds, sizes are bytes; 0 switches a limit off where `off` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _limit(default: float, doc: str, *, least: float = 0, off: bool = False) -> Any:
    return field(default=default, metadata={"doc": doc, "least": 0 if off else least, "off": off})


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, counts as they are."""

    max_url_bytes: int = _limit(16384, "Longest request target; a longer one is answered 414", least=256)
    max_head_bytes: int = _limit(65536, "Largest request or response head; a larger request head is 431", least=1024)
    max_headers: int = _limit(200, "Most header lines in one head; more are 431", least=8)
    max_body_bytes: int = _limit(0, "Largest request body towards a sandbox; a larger one is 413", off=True)
    max_connections: int = _limit(20000, "Most client connections at once", least=1)
    max_client_connections: int = _limit(
        0,
        "Most client connections at once from one address (an IPv6 /64), trusted proxies excepted; more are 429. "
        "0 means half of max_connections, so that nobody can use up all of them",
    )
    max_client_heads: int = _limit(
        1000,
        "Most requests of one address whose head has begun to arrive and is not complete, trusted proxies excepted; "
        "more are 429",
        off=True,
    )
    client_requests_per_second: float = _limit(
        0.0,
        "Requests of one address in a second, on average, of clients behind a trusted proxy by what it says of them; "
        "more are 429",
        off=True,
    )
    client_requests_burst: int = _limit(0, "How many of them may come at once; 0 means as many as in a second")
    max_sandbox_exchanges: int = _limit(
        2000, "Most requests and tunnels open on one sandbox at once; more are 429", least=1
    )
    head_timeout: float = _limit(20.0, "Time for a whole request head to arrive (408)", least=0.1)
    body_idle_timeout: float = _limit(
        120.0, "Longest pause of a client inside a request body it has announced (408)", least=0.1
    )
    keep_alive_timeout: float = _limit(75.0, "How long an idle client connection is kept", least=1)
    stream_idle_timeout: float = _limit(
        3600.0, "Longest time without a byte in either direction while a response or tunnel is open", off=True
    )
    connect_timeout: float = _limit(5.0, "Time for one connection attempt to a sandbox", least=0.05)
    connect_budget: float = _limit(
        3.0, "How long connecting is retried while the port is not listening yet, then 504", least=0
    )
    wake_budget: float = _limit(5.0, "How long a request waits for the sandbox it has woken, then 503", least=0.1)
    wake_max_waiting: int = _limit(1024, "Most requests waiting for sandboxes to wake up; more are 503", least=1)
    pool_idle_timeout: float = _limit(30.0, "How long an idle connection to a sandbox is kept", least=0.1)
    pool_max_idle: int = _limit(64, "Most idle connections kept for one port of a sandbox", least=0)
