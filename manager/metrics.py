"""Prometheus text, rendered at each scrape: the data plane's counters and those of the services.

The number of time series is bounded by this file: no label value comes from a client, and none is a sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.metrics import CLASSES, FORMS, Counters
from gateway.table import RouteTable
from manager.services.wiring import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_SECONDS = 0.5
_FIRST_BUCKET, _LAST_BUCKET = 6, 36
"""Durations are counted by powers of two of a microsecond; shown from 64 µs to about 19 hours."""


class LoopLag:
    """The event loop's lag: the longest delay of a callback since the last scrape, in seconds."""

    def __init__(self) -> None:
        self._worst = 0.0

    async def run(self) -> None:
        """Measures until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._worst = max(self._worst, loop.time() - due)

    def take(self) -> float:
        """The longest lag since the last call."""
        worst, self._worst = self._worst, 0.0
        return worst


class _Plane(Collector):
    """The data plane."""

    def __init__(self, read: Callable[[], Counters], table: RouteTable, draining: Callable[[], bool]) -> None:
        self._read = read
        self._table = table
        self._draining = draining

    def collect(self) -> Iterator[Metric]:
        counters = self._read()
        yield _requests(counters)
        yield _durations(counters)
        yield _bytes(self._table)
        yield _labelled("gateway_refusals", "Answers of the gateway's own, by code", "code", counters.refusals.items())
        yield _counter("gateway_connections", "Client connections accepted", counters.connections_total)
        yield _gauge("gateway_connections_open", "Client connections open", counters.connections)
        yield _gauge("gateway_client_addresses", "Client addresses with a connection", counters.client_addresses)
        yield _counter("gateway_tunnels", "Connections that became tunnels (WebSocket)", counters.tunnels_total)
        yield _gauge("gateway_tunnels_open", "Tunnels open", counters.tunnels)
        yield _counter("gateway_dials", "Connections made to sandboxes", counters.dials)
        yield _counter("gateway_dial_failures", "Attempts to connect to a sandbox that failed", counters.dial_failures)
        yield _counter("gateway_pool_hits", "Requests sent on a kept connection", counters.pool_hits)
        yield _counter("gateway_retries", "Requests repeated on another connection", counters.retries)
        yield _gauge("gateway_routes", "Sandboxes in the route table", len(self._table))
        yield _gauge("gateway_draining", "1 while the gateway shuts down", int(self._draining()))


class _Manager(Collector):
    """The control plane."""

    def __init__(self, services: Services, lag: LoopLag) -> None:
        self._services = services
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        services, tallies = self._services, self._services.tallies
        states = [(state.value, count) for state, count in services.inventory.states().items()]
        yield _labelled_gauge("sandboxes", "Sandboxes by state", "state", states)
        outcomes = [("ok", tallies.creates_ok), ("failed", tallies.creates_failed)]
        yield _labelled("sandbox_creates", "Create requests that were carried out", "outcome", outcomes)
        yield _counter("sandbox_create_seconds", "Time the successful creates took", tallies.create_seconds)
        yield _counter("sandbox_deletes", "Sandboxes deleted by request", tallies.deletes)
        yield _counter("sandbox_expiries", "Sandboxes that reached the end of their lifetime", tallies.expiries)
        yield _counter("sandbox_renewals", "Lifetimes extended", tallies.renewals)
        sent = [("delivered", tallies.events_sent), ("dead", tallies.events_undelivered)]
        yield _labelled("event_webhooks", "Events for the webhook, by what became of them", "outcome", sent)
        yield _gauge("runtime_watch_age_seconds", "How old the view of the runtime is", services.watch.age())
        yield _gauge("degraded", "1 while the server cannot do all of its work", int(services.degraded() is not None))
        yield _gauge("loop_lag_seconds", "Longest delay of the event loop since the last scrape", self._lag.take())


def registry(
    read: Callable[[], Counters], table: RouteTable, services: Services, lag: LoopLag, draining: Callable[[], bool]
) -> CollectorRegistry:
    """All metrics; `read` returns the data plane's counters summed over all processes."""
    made = CollectorRegistry()
    made.register(_Plane(read, table, draining))
    made.register(_Manager(services, lag))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    return made


def render(made: CollectorRegistry) -> bytes:
    """The text format, version 0.0.4."""
    return generate_latest(made)


def metrics_app(made: CollectorRegistry) -> web.Application:
    """An application that serves only `/metrics`, for a port of its own."""

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=render(made), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/metrics", scrape)
    return app


def _name(name: str) -> str:
    return f"opensandbox_{name}"


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_name(name), text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_name(name), text, value=value)


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily(_name(name), text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family


def _labelled_gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(_name(name), text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family


def _requests(counters: Counters) -> Metric:
    text = "Exchanges by way of addressing and class of status; aborted ended before a whole answer was sent"
    family = CounterMetricFamily(_name("gateway_requests"), text, labels=["form", "status"])
    for form, row in zip(FORMS, counters.responses, strict=True):
        for status, count in zip(CLASSES, row, strict=True):
            family.add_metric([form, status], count)
    return family


def _durations(counters: Counters) -> Metric:
    family = HistogramMetricFamily(
        _name("gateway_request_duration_seconds"), "From the request's head to the answer's last byte"
    )
    running = sum(counters.durations[:_FIRST_BUCKET])
    buckets: list[tuple[str, float]] = []
    for power in range(_FIRST_BUCKET, _LAST_BUCKET + 1):
        running += counters.durations[power]
        buckets.append((repr(2**power / 1e6), running))
    buckets.append(("+Inf", sum(counters.durations)))
    family.add_metric([], buckets, sum_value=counters.duration_seconds)
    return family


def _bytes(table: RouteTable) -> Metric:
    family = CounterMetricFamily(
        _name("gateway_body_bytes"), "Body and tunnel bytes, by direction", labels=["direction"]
    )
    moved = [route.moved() for route in table]
    family.add_metric(["to_sandboxes"], table.retired_in + sum(one for one, _ in moved))
    family.add_metric(["to_clients"], table.retired_out + sum(one for _, one in moved))
    return family
