"""What a sandbox's owner says about its use through the gateway: limits, prefixes, sleep."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.cors import CorsRule
from gateway.upstream.host_rules import HostRules
from tests.manager.api.conftest import Api, OpenApi, plain

RATE, METHODS = "access.limit.requests.per.second", "access.limit.methods"


async def test_limits_are_shown_and_changed(api: Api) -> None:
    """Set at create, merged by patches, null lifts one."""
    made = await api.create(extensions={RATE: "10", METHODS: "GET"})
    path = f"/sandboxes/{made['id']}/access"
    assert (await api.call("GET", path))[1] == {"limits": {RATE: "10", METHODS: "GET"}}
    assert await api.call("PATCH", path, json={"limits": {RATE: "5", METHODS: None}}) == (200, {"limits": {RATE: "5"}})
    assert (await api.call("GET", path))[1] == {"limits": {RATE: "5"}}


async def test_changed_limits_survive_a_restart(open_api: OpenApi) -> None:
    """The runtime's labels still say the old ones; they do not count."""
    first = await open_api()
    made = await first.create(extensions={RATE: "10", METHODS: "GET"})
    path = f"/sandboxes/{made['id']}/access"
    await first.call("PATCH", path, json={"limits": {RATE: None, METHODS: None}})
    second = await open_api(first.house.runtime)
    assert (await second.call("GET", path))[1] == {"limits": {}}
    await second.call("DELETE", f"/sandboxes/{made['id']}")
    assert await second.house.services.records.limits.all() == {}


@pytest.mark.parametrize(
    "extensions",
    [
        {RATE: "fast"},
        {"access.limit.nonsense": "1"},
        {"access.limit.paths": "/a/../b"},
        {"access.prefix.keep": "8888,x"},
        {"access.prefix.keep": "0"},
        {"access.prefix.keep": "70000"},
        {"access.upstream.host": ""},
        {"access.upstream.host": "9222=upstream,9222=public"},
        {"access.upstream.host": "9222=upstream,"},
        {"access.upstream.host": "true=upstream"},
        {"access.upstream.host": "70000=upstream"},
        {"access.upstream.host": "localhost:8000/path"},
        {"access.upstream.host": "a b"},
        {"access.upstream.origin": "yes"},
        {"access.cors": "app.example.com"},
        {"access.cors": "https://app.example.com/path"},
        {"access.cors": "https://a.example, javascript:alert(1)"},
        {"access.cors.ports": "8080;3000"},
        {"access.pause.after.idle.seconds": "29"},
        {"access.pause.after.idle.seconds": ""},
    ],
)
async def test_what_is_refused_at_create(api: Api, extensions: dict[str, str]) -> None:
    """400 naming the key."""
    status, body = await api.call("POST", "/sandboxes", json=plain(extensions=extensions))
    assert (status, body["code"]) == (400, "SANDBOX::INVALID_PARAMETER")
    assert next(iter(extensions)) in body["message"]


@pytest.mark.parametrize("limits", [{RATE: "0"}, {"other": "1"}, {"access.limit.x": "1"}, [], {RATE: 5}])
async def test_patches_that_are_refused(api: Api, limits: Any) -> None:
    """400, and the old limits hold."""
    made = await api.create(extensions={RATE: "10"})
    path = f"/sandboxes/{made['id']}/access"
    assert (await api.call("PATCH", path, json={"limits": limits}))[0] == 400
    assert (await api.call("GET", path))[1] == {"limits": {RATE: "10"}}


@pytest.mark.parametrize(
    ("value", "kept"),
    [("8888, 8080", {8888, 8080}), ("true", {0}), ("false", set()), (None, set())],
)
async def test_prefixes_that_are_kept(api: Api, value: str | None, kept: set[int]) -> None:
    """The gateway knows the ports whose programs want to see the public path; 0 is all of them."""
    made = await api.create(extensions={} if value is None else {"access.prefix.keep": value})
    route = api.house.table.get(made["id"].encode())
    assert route is not None
    assert route.keep_prefix == kept


async def test_the_gateway_has_the_limits(api: Api) -> None:
    """From the create on, and changed ones at once; without any there is nothing to look at."""
    made = await api.create(extensions={RATE: "10"})
    route = api.house.table.get(made["id"].encode())
    assert route is not None
    assert route.rules is not None
    assert route.rules.requests_per_second == 10
    path = f"/sandboxes/{made['id']}/access"
    await api.call("PATCH", path, json={"limits": {RATE: "5"}})
    assert route.rules.requests_per_second == 5
    await api.call("PATCH", path, json={"limits": {RATE: None}})
    assert route.quota is None


@pytest.mark.parametrize(
    ("extensions", "rule"),
    [
        ({}, None),
        ({"access.cors.ports": "true"}, None),
        ({"access.cors": "https://App.example:8443"}, CorsRule(frozenset({b"https://app.example:8443"}))),
        (
            {"access.cors": "http://[::1]:3000, *", "access.cors.ports": "8080,3000"},
            CorsRule(frozenset({b"http://[::1]:3000", b"*"}), frozenset({8080, 3000})),
        ),
    ],
)
async def test_pages_of_other_origins(api: Api, extensions: dict[str, str], rule: CorsRule | None) -> None:
    """The owner's origins and ports reach the route."""
    made = await api.create(extensions=extensions)
    route = api.house.table.get(made["id"].encode())
    assert route is not None
    assert route.cors == rule


@pytest.mark.parametrize(
    ("extensions", "rules"),
    [
        ({}, HostRules()),
        ({"access.upstream.origin": "true"}, HostRules()),
        ({"access.upstream.host": "Upstream"}, HostRules({0: b"upstream"})),
        (
            {"access.upstream.host": "9222 = upstream, public,8000=[::1]:8000", "access.upstream.origin": "9222"},
            HostRules({9222: b"upstream", 0: b"public", 8000: b"[::1]:8000"}, frozenset({9222})),
        ),
    ],
)
async def test_hosts_of_programs(api: Api, extensions: dict[str, str], rules: HostRules) -> None:
    """The gateway knows what Host each port's program is sent, and which Origins follow it."""
    made = await api.create(extensions=extensions)
    route = api.house.table.get(made["id"].encode())
    assert route is not None
    assert route.hosts == rules
