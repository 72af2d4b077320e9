"""Endpoints in every ingress mode, as clients are told them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.signing import Signature, verify_long
from manager.domain.sandbox import Addresses
from manager.services.endpoints import direct_address
from manager.services.public_host import bare_host
from tests.manager.api.conftest import Api, OpenApi
from tests.manager.fake_runtime import running
from tests.manager.harness import settings_of

KEYS: dict[str, Any] = {
    "active_key": "a",
    "keys": [{"key_id": "a", "key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}],
}
FAR = 2000000000


def gateway(mode: str, address: str, **more: Any) -> dict[str, Any]:
    """An [ingress] table in gateway mode."""
    return {"mode": "gateway", "gateway": {"address": address, "route": {"mode": mode}}, **more}


async def endpoint(api: Api, sandbox_id: str, rest: str) -> Any:
    status, body = await api.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/{rest}")
    assert status == 200, body
    return body


async def test_direct(open_api: OpenApi) -> None:
    """Published ports as they are, all others relayed by execd, never the container's own address."""
    api = await open_api(server={"host": "127.0.0.1"})
    made = await api.create()
    assert await endpoint(api, made["id"], "8080") == {"endpoint": "127.0.0.1:40002"}
    assert await endpoint(api, made["id"], "44772") == {"endpoint": "127.0.0.1:40001"}
    assert await endpoint(api, made["id"], "3000") == {"endpoint": "127.0.0.1:40001/proxy/3000"}


@pytest.mark.parametrize("host_ip", ["192.0.2.7", "sandboxes.example.com"])
async def test_docker_host_ip_is_the_host_of_endpoints_in_a_container(
    open_api: OpenApi, monkeypatch: pytest.MonkeyPatch, host_ip: str
) -> None:
    """There the server's own addresses mean nothing to clients."""
    monkeypatch.setenv("container", "docker")
    api = await open_api(server={"host": "127.0.0.1"}, docker={"host_ip": host_ip, "network_mode": "bridge"})
    made = await api.create()
    assert await endpoint(api, made["id"], "8080") == {"endpoint": f"{host_ip}:40002"}
    assert await endpoint(api, made["id"], "3000") == {"endpoint": f"{host_ip}:40001/proxy/3000"}


@pytest.mark.parametrize(
    ("mode", "address", "expected", "headers"),
    [
        ("wildcard", "*.box.example.com:8443", "{id}-80.box.example.com:8443", {}),
        ("wildcard", "box.example.com", "{id}-80.box.example.com", {}),
        ("uri", "10.0.0.1:8000", "10.0.0.1:8000/{id}/80", {}),
        ("header", "gw.example.com", "gw.example.com", {"OpenSandbox-Ingress-To": "{id}-80"}),
    ],
)
async def test_through_the_gateway(
    open_api: OpenApi, mode: str, address: str, expected: str, headers: dict[str, str]
) -> None:
    """The form the configuration names, whatever the sandbox's state."""
    api = await open_api(ingress=gateway(mode, address))
    made = await api.create()
    body = await endpoint(api, made["id"], "80")
    assert body["endpoint"] == expected.format(id=made["id"])
    assert body.get("headers", {}) == {key: value.format(id=made["id"]) for key, value in headers.items()}


async def test_signed(open_api: OpenApi) -> None:
    """An expiry asks for a signature in the address; the static token is left out then."""
    api = await open_api(ingress=gateway("uri", "gw", secure_access=KEYS))
    made = await api.create(secureAccess=True)
    body = await endpoint(api, made["id"], f"44772?expires={FAR}&use_server_proxy=false")
    prefix, _, signature = body["endpoint"].rpartition("/")
    assert prefix == f"gw/{made['id']}/44772/x2qxvk"
    assert (len(signature), signature[-1]) == (9, "a")
    assert "headers" not in body
    unsigned = await endpoint(api, made["id"], "44772")
    assert len(unsigned["headers"]["OpenSandbox-Secure-Access"]) == 32


async def test_long_signatures(open_api: OpenApi) -> None:
    """On request, longer than the short ones and bound to methods and a path; they fit no wildcard label."""
    api = await open_api(ingress=gateway("uri", "gw", secure_access=KEYS))
    made = await api.create(secureAccess=True)
    query = f"expires={FAR}&signature=long&method=GET&method=POST&path=/api"
    code = (await endpoint(api, made["id"], f"80?{query}"))["endpoint"].rpartition("/")[2]
    parsed = Signature(b"x2qxvk", code.encode())
    secret = b"0123456789abcdef0123456789abcdef"
    check = partial(verify_long, secret, made["id"].encode(), 80, parsed)
    assert check(b"GET", b"/api/x")
    assert not check(b"DELETE", b"/api/x")
    assert not check(b"GET", b"/other")


@pytest.mark.parametrize(
    "query",
    [
        f"expires={FAR}&method=GET",
        f"expires={FAR}&path=/a",
        f"expires={FAR}&signature=long&method=FLY",
        f"expires={FAR}&signature=long&path=/a/../b",
        f"expires={FAR}&signature=huge",
        "signature=long",
    ],
)
async def test_signatures_that_cannot_be_made(open_api: OpenApi, query: str) -> None:
    """400 with the reason."""
    api = await open_api(ingress=gateway("uri", "gw", secure_access=KEYS))
    made = await api.create()
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/endpoints/80?{query}")
    assert (status, body["code"]) == (400, "SANDBOX::INVALID_PARAMETER")


async def test_signing_keys_are_replaced_while_running(open_api: OpenApi) -> None:
    """After a reload addresses are signed with the new active key."""
    api = await open_api(ingress=gateway("uri", "gw", secure_access=KEYS))
    made = await api.create(secureAccess=True)
    rotated = {"active_key": "b", "keys": [*KEYS["keys"], {"key_id": "b", "key": "c2Vjb25k"}]}
    api.house.services.reload(settings_of(ingress=gateway("uri", "gw", secure_access=rotated)))
    assert (await endpoint(api, made["id"], f"80?expires={FAR}"))["endpoint"].endswith("b")


async def test_through_the_server(open_api: OpenApi) -> None:
    """The address the caller used, with the prefix it used; credentials stay, the routing header goes."""
    api = await open_api(ingress=gateway("header", "gw"))
    made = await api.create(secureAccess=True)
    host = f"{api.client.host}:{api.client.port}"
    body = await endpoint(api, made["id"], "80?use_server_proxy=true")
    assert body["endpoint"] == f"{host}/v1/sandboxes/{made['id']}/proxy/80"
    assert set(body["headers"]) == {"OpenSandbox-Secure-Access"}
    bare = await api.call("GET", f"/sandboxes/{made['id']}/endpoints/80?use_server_proxy=1")
    assert bare[1]["endpoint"] == f"{host}/sandboxes/{made['id']}/proxy/80"


@pytest.mark.defect(4)
async def test_eip(open_api: OpenApi) -> None:
    """A public base is used whole for proxied addresses and as a bare host for direct ones."""
    api = await open_api(server={"eip": "https://pub.example.com:444/osb/"})
    made = await api.create()
    assert (await endpoint(api, made["id"], "8080"))["endpoint"] == "pub.example.com:40002"
    proxied = await endpoint(api, made["id"], "8080?use_server_proxy=true")
    assert proxied["endpoint"] == f"pub.example.com:444/osb/v1/sandboxes/{made['id']}/proxy/8080"


@pytest.mark.defect(4)
@pytest.mark.parametrize(("eip", "asked"), [("pub", "/v1"), ("pub/v1/", "/v1"), ("pub/v1", "")])
async def test_the_version_in_proxied_addresses(open_api: OpenApi, eip: str, asked: str) -> None:
    """As the caller spells it, and once where the public base has it already."""
    api = await open_api(server={"eip": eip})
    made = await api.create()
    _, body = await api.call("GET", f"{asked}/sandboxes/{made['id']}/endpoints/80?use_server_proxy=true")
    assert body["endpoint"] == f"pub/v1/sandboxes/{made['id']}/proxy/80"


async def test_the_sidecar_is_reached_through_execd(open_api: OpenApi) -> None:
    """Its vault takes writes from its own network namespace only, whether or not its port is published as well."""
    api = await open_api(server={"eip": "pub"}, egress={"image": "egress:1"})
    made = await api.create(networkPolicy={"egress": []})
    box = api.house.runtime.sandboxes[made["id"]]
    published = {**box.addresses.published, 18080: ("127.0.0.1", 40003)}
    api.house.runtime.appear(replace(box, addresses=replace(box.addresses, published=published)))
    assert (await endpoint(api, made["id"], "18080"))["endpoint"] == "pub:40001/proxy/18080"


async def test_the_egress_token(open_api: OpenApi) -> None:
    """Port 18080 of a sandbox with a policy carries the sidecar's token, other ports do not."""
    api = await open_api(egress={"image": "egress:1"})
    made = await api.create(networkPolicy={"egress": []})
    assert (await endpoint(api, made["id"], "18080"))["headers"] == {"OPENSANDBOX-EGRESS-AUTH": "egress-token"}
    assert "headers" not in await endpoint(api, made["id"], "8080")


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("0", "DOCKER::INVALID_PORT"),
        ("65536", "DOCKER::INVALID_PORT"),
        ("x", "SANDBOX::INVALID_PARAMETER"),
        ("-1", "DOCKER::INVALID_PORT"),
        ("99999999999", "DOCKER::INVALID_PORT"),
        ("8080.0", "SANDBOX::INVALID_PARAMETER"),
        ("80?use_server_proxy=banana", "SANDBOX::INVALID_PARAMETER"),
        (f"80?use_server_proxy=true&expires={FAR}", "SANDBOX::INVALID_PARAMETER"),
        (f"80?expires={FAR}", "SANDBOX::API_NOT_SUPPORTED"),
        ("80?expires=x", "SANDBOX::INVALID_PARAMETER"),
    ],
)
async def test_refused_in_direct_mode(api: Api, rest: str, code: str) -> None:
    """Each bad parameter has its code."""
    made = await api.create()
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/endpoints/{rest}")
    assert (status, body["code"]) == (400, code)


@pytest.mark.parametrize("expires", ["0", "1", "-5", str(2**64)])
async def test_expiries_that_cannot_be_signed(open_api: OpenApi, expires: str) -> None:
    """The past and what does not fit 64 bits."""
    api = await open_api(ingress=gateway("header", "gw", secure_access=KEYS))
    made = await api.create()
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/endpoints/80?expires={expires}")
    assert (status, body["code"]) == (400, "SANDBOX::INVALID_PARAMETER")


async def test_a_label_dns_cannot_carry(open_api: OpenApi) -> None:
    """A signature until the end of time does not fit beside a UUID."""
    api = await open_api(ingress=gateway("wildcard", "box.example.com", secure_access=KEYS))
    made = await api.create()
    status, body = await api.call("GET", f"/sandboxes/{made['id']}/endpoints/44772?expires={2**64 - 1}")
    assert status == 400
    assert "63" in body["message"]


@pytest.mark.parametrize(
    ("addresses", "port", "expected"),
    [
        (Addresses(host_network=True, dial_host="127.0.0.1"), 3000, "pub:3000"),
        (Addresses(host_network=True, dial_host="10.1.2.3"), 3000, "10.1.2.3:3000"),
        (Addresses(published={44772: ("10.1.2.3", 5)}), 80, "10.1.2.3:5/proxy/80"),
        (Addresses(published={44772: ("::1", 5)}), 44772, "pub:5"),
        (Addresses(dial_host="172.17.0.2"), 80, None),
        (Addresses(published={8080: ("172.18.0.1", 5)}, private_host="172.18.0.1"), 8080, "pub:5"),
        (Addresses(published={8080: ("192.0.2.9", 5)}, private_host="172.18.0.1"), 8080, "192.0.2.9:5"),
        (Addresses(host_network=True, dial_host="172.18.0.1", private_host="172.18.0.1"), 3000, "pub:3000"),
    ],
)
def test_direct_addresses(addresses: Addresses, port: int, expected: str | None) -> None:
    """Host network is the port itself, a remote Engine is reached at its own host, nothing published is nothing.

    An address that only we know the Engine's host by is never given out.
    """
    sandbox = running("a")
    sandbox = type(sandbox)(**{**_fields(sandbox), "addresses": addresses})
    assert direct_address(sandbox, port, "pub") == expected


@pytest.mark.defect(4)
@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("pub", "pub"),
        ("https://pub/x", "pub"),
        ("pub:80", "pub"),
        ("[::1]:80", "[::1]"),
        ("::1", "[::1]"),
        ("http://10.0.0.1:8/", "10.0.0.1"),
    ],
)
def test_bare_hosts(address: str, host: str) -> None:
    """A scheme, a port or a path in server.eip does not corrupt direct endpoints."""
    assert bare_host(address) == host


def _fields(sandbox: Any) -> dict[str, Any]:
    return {name: getattr(sandbox, name) for name in sandbox.__dataclass_fields__}
