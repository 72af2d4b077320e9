"""What is scraped: the numbers of the data plane under their names, and nothing that a client can make grow."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import ABORTED, CLASSES, FORMS, Counters
from gateway.table import Removal, SandboxRoute
from gateway.upstream.targets import Targets
from manager.metrics import LoopLag, registry, render
from manager.process import serve_metrics
from manager.workers.supervisor import Workers
from tests.manager.harness import House, open_house, settings_of, wish
from tests.server_process import free_port

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
OURS = "opensandbox_"
Labels = frozenset[tuple[str, str]]


class Scraped:
    """Counters, a table and what a scrape makes of them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.counters = Counters()
        self.draining = False
        workers = Workers(0, house.table, house.services.resolver)
        self.made: CollectorRegistry = registry(
            lambda: workers.total(self.counters), house.table, house.services, LoopLag(), lambda: self.draining
        )
        self.made.register(workers)

    def read(self) -> dict[tuple[str, Labels], float]:
        """Every series of ours, by its name without the prefix and its labels."""
        return {
            (sample.name.removeprefix(OURS), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(render(self.made).decode())
            for sample in family.samples
            if sample.name.startswith(OURS)
        }

    def value(self, name: str, **labels: str) -> float:
        """One of them."""
        return self.read()[name, frozenset(labels.items())]


@pytest.fixture
async def scraped(tmp_path: Path) -> AsyncIterator[Scraped]:
    """Running services and a data plane that has done nothing yet."""
    async with open_house(tmp_path) as house:
        yield Scraped(house)


async def test_requests_by_form_and_class(scraped: Scraped) -> None:
    """Each cell of the table is a series, zero or not."""
    counters = scraped.counters
    counters.responses[FORMS.index("host")][1] = 7
    counters.responses[FORMS.index("api")][ABORTED] = 2
    found = scraped.read()
    requests = {labels: value for (name, labels), value in found.items() if name == "gateway_requests_total"}
    assert len(requests) == len(FORMS) * len(CLASSES)
    assert requests[frozenset({("form", "host"), ("status", "2xx")})] == 7
    assert requests[frozenset({("form", "api"), ("status", "aborted")})] == 2
    assert sum(requests.values()) == 9


async def test_durations_are_a_histogram(scraped: Scraped) -> None:
    """Buckets add up from the shortest to all, and the sum is in seconds."""
    counters = scraped.counters
    counters.durations[3], counters.durations[10], counters.durations[60] = 1, 2, 4
    counters.duration_seconds = 2.5
    found = scraped.read()
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "gateway_request_duration_seconds_bucket"
    }
    assert [buckets[bound] for bound in sorted(buckets)] == sorted(buckets.values())
    assert (buckets[64e-6], buckets[512e-6], buckets[1024e-6], buckets[float("inf")]) == (1, 1, 3, 7)
    assert scraped.value("gateway_request_duration_seconds_count") == 7
    assert scraped.value("gateway_request_duration_seconds_sum") == 2.5


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("connections", "gateway_connections_open"),
        ("client_addresses", "gateway_client_addresses"),
        ("connections_total", "gateway_connections_total"),
        ("tunnels", "gateway_tunnels_open"),
        ("tunnels_total", "gateway_tunnels_total"),
        ("dials", "gateway_dials_total"),
        ("dial_failures", "gateway_dial_failures_total"),
        ("pool_hits", "gateway_pool_hits_total"),
        ("retries", "gateway_retries_total"),
    ],
)
async def test_plain_numbers(scraped: Scraped, field: str, name: str) -> None:
    """A counter of the data plane is shown as it is at the moment of the scrape."""
    setattr(scraped.counters, field, 5)
    assert scraped.value(name) == 5


async def test_bytes_of_routes_that_went_stay(scraped: Scraped) -> None:
    """What went through a sandbox is counted after its end as before."""
    table = scraped.house.table
    route = table.put(SandboxRoute("abc", "1", Targets()))
    route.bytes_in, route.bytes_out = 3, 4
    for _ in range(2):
        assert scraped.value("gateway_body_bytes_total", direction="to_sandboxes") == 3
        assert scraped.value("gateway_body_bytes_total", direction="to_clients") == 4
        table.remove("abc", Removal.DELETED)


async def test_refusals_and_draining(scraped: Scraped) -> None:
    """Refusals are told by their code; whether it goes down is 0 or 1."""
    assert scraped.value("gateway_draining") == 0
    scraped.counters.refused("GATEWAY::SANDBOX_PAUSED")
    scraped.draining = True
    assert scraped.value("gateway_refusals_total", code="GATEWAY::SANDBOX_PAUSED") == 1
    assert scraped.value("gateway_draining") == 1


async def test_the_number_of_series_does_not_follow_the_sandboxes(scraped: Scraped) -> None:
    """No label holds an id: a thousand sandboxes more are not one series more."""
    before = scraped.read().keys()
    house = scraped.house
    made = await house.services.creation.create(wish())
    for number in range(1000):
        house.table.put(SandboxRoute(f"box{number}", "1", Targets()))
    after = scraped.read()
    assert after.keys() == before
    assert made.id not in render(scraped.made).decode()
    assert after["gateway_routes", frozenset()] == 1001


async def test_every_name_is_on_the_page(scraped: Scraped) -> None:
    """What is scraped is documented, and what is documented is scraped."""
    scraped.counters.refused("GATEWAY::SANDBOX_PAUSED")
    section = PAGE.read_text().partition("## Metrics")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    told = {re.sub(r"\{.*", "", name) for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    scrapes = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name, _ in scraped.read()}
    assert told == scrapes


async def test_a_port_of_its_own(scraped: Scraped) -> None:
    """There it needs no key, and there is nothing else."""
    port = free_port()
    settings = settings_of(server={"api_key": "key", "metrics_port": port})
    url = f"http://127.0.0.1:{port}"
    async with serve_metrics(settings, scraped.made), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/metrics") as answer:
            assert answer.status == 200
            assert "opensandbox_gateway_requests_total" in await answer.text()
        async with session.get(f"{url}/v1/sandboxes") as answer:
            assert answer.status == 404
