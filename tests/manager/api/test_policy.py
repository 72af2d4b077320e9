"""The egress policy is passed on to the sidecar: checked first, with the token of the server and not the caller's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from manager.services import policy
from tests.manager.api.conftest import Api, OpenApi

POLICY = {"defaultAction": "deny", "egress": [{"action": "allow", "target": "example.org"}]}


@dataclass
class Sidecar:
    """What a sidecar was asked, and where it listens."""

    port: int = 0
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)
    refuses: int | None = None


@pytest.fixture
async def sidecar() -> AsyncIterator[Sidecar]:
    """A server that answers like the sidecar at its own port."""
    seen = Sidecar()

    async def answer(request: web.Request) -> web.Response:
        body = await request.text()
        token = request.headers.get("OPENSANDBOX-EGRESS-AUTH", "")
        seen.asked.append((request.method, request.path_qs, token, json.loads(body) if body else None))
        if seen.refuses is not None:
            return web.Response(status=seen.refuses, text="so it is\n")
        return web.json_response({"status": "ok", "policy": POLICY}, status=200 if token == "egress-token" else 401)

    app = web.Application()
    app.router.add_route("*", "/policy", answer)
    async with TestServer(app) as server:
        assert server.port is not None
        seen.port = server.port
        yield seen


async def with_sidecar(open_api: OpenApi, sidecar: Sidecar) -> tuple[Api, str]:
    api = await open_api(egress={"image": "egress:1"})
    made = await api.create(networkPolicy={"egress": []})
    box = api.house.runtime.sandboxes[made["id"]]
    addresses = replace(
        box.addresses, dial_host=None, published={18080: ("127.0.0.1", sidecar.port), 44772: ("127.0.0.1", 9)}
    )
    api.house.runtime.appear(replace(box, addresses=addresses))
    return api, f"/v1/sandboxes/{made['id']}/networkpolicy"


@pytest.mark.parametrize(
    ("method", "body"),
    [("GET", None), ("PUT", POLICY), ("PATCH", POLICY["egress"]), ("DELETE", ["example.org"])],
)
async def test_passing_on(open_api: OpenApi, sidecar: Sidecar, method: str, body: Any) -> None:
    """Method, query and body arrive at the sidecar itself, past execd; the answer comes back."""
    api, path = await with_sidecar(open_api, sidecar)
    options = {} if body is None else {"json": body}
    status, answer = await api.call(method, f"{path}?a=1", headers={"OPENSANDBOX-EGRESS-AUTH": "mine"}, **options)
    assert (status, answer["policy"]) == (200, POLICY)
    assert sidecar.asked == [(method, "/policy?a=1", "egress-token", body)]


@pytest.mark.parametrize(
    ("method", "body"),
    [("PUT", []), ("PUT", {"egress": [{}]}), ("PATCH", {}), ("PATCH", [{"action": "allow"}]), ("DELETE", [1])],
)
async def test_bodies_that_are_refused(open_api: OpenApi, sidecar: Sidecar, method: str, body: Any) -> None:
    """400 before the sidecar is asked."""
    api, path = await with_sidecar(open_api, sidecar)
    assert (await api.call(method, path, json=body))[0] == 400
    assert sidecar.asked == []


async def test_without_a_sidecar(api: Api) -> None:
    """400 that says why; nobody is 404."""
    made = await api.create()
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/networkpolicy")
    assert (status, body["code"]) == (400, "SANDBOX::API_NOT_SUPPORTED")
    assert (await api.call("GET", "/sandboxes/nobody/networkpolicy"))[0] == 404


@pytest.mark.parametrize(
    ("refused", "status", "code"),
    [
        (400, 400, "SANDBOX::INVALID_PARAMETER"),
        (413, 400, "SANDBOX::INVALID_PARAMETER"),
        (401, 502, "BACKEND_CONNECTION_FAILED"),
        (502, 502, "BACKEND_CONNECTION_FAILED"),
    ],
)
async def test_a_sidecar_that_refuses(
    open_api: OpenApi, sidecar: Sidecar, refused: int, status: int, code: str
) -> None:
    """Its plain text comes in the envelope; what is wrong with the policy is the caller's, the rest is not."""
    sidecar.refuses = refused
    api, path = await with_sidecar(open_api, sidecar)
    told, body = await api.call("PATCH", path, json=POLICY["egress"])
    assert (told, body["code"]) == (status, code)
    assert "so it is" in body["message"]


async def test_a_sidecar_that_is_down(
    open_api: OpenApi, sidecar: Sidecar, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """502 in the envelope, without its address, once execd has had time to start."""
    monkeypatch.setattr(policy, "_PATIENCE", 0.2)
    sidecar.port = unused_tcp_port
    api, path = await with_sidecar(open_api, sidecar)
    status, body = await api.call("GET", path)
    assert (status, body["code"]) == (502, "BACKEND_CONNECTION_FAILED")
    assert "127.0.0.1" not in body["message"]


async def test_a_sidecar_without_address(open_api: OpenApi, sidecar: Sidecar) -> None:
    """503 while nothing leads to it."""
    api, path = await with_sidecar(open_api, sidecar)
    (box,) = api.house.runtime.sandboxes.values()
    api.house.runtime.appear(replace(box, addresses=replace(box.addresses, published={})))
    assert (await api.call("GET", path))[0] == 503
