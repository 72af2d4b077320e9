"""Who may come in, by the official SDK: tokens, signed addresses, and what a sandbox itself may reach."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

import docker
import httpx
import pytest
from opensandbox import Sandbox
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.sandboxes import CredentialProxyConfig, NetworkPolicy, NetworkRule, SandboxEndpoint

from manager.runtime.docker.networks import gateways
from tests.clients.conftest import Clients
from tests.clients.modes import MODES, LocalNames
from tests.clients.test_restart import GATEWAY_BY_HEADER, request
from tests.conftest import StartServer
from tests.server_process import ServerProcess

EXECD_PORT = 44772
TOKEN_HEADER = "OpenSandbox-Secure-Access"
ACCESS_SECONDS = 300
CONNECT_SECONDS = 5
SECRET = "never-shown"
TOKEN: dict[str, object] = {"name": "token", "source": {"type": "inline", "value": SECRET}}
BINDING: dict[str, object] = {
    "name": "api",
    "match": {"schemes": ["https"], "hosts": ["api.example.test"]},
    "auth": {"type": "bearer", "credential": "token"},
}
SIGNATURE = re.compile(r"[0-9a-f]{8}(?=k\b)")
"""Eight digits and the id of the key."""
GATEWAY_MODES = [mode for mode in MODES.values() if mode.route]
DIRECT_MODES = [mode for mode in MODES.values() if not mode.route]


async def ping(endpoint: SandboxEndpoint, **headers: str) -> int:
    """One plain request to execd at that address; returns the status."""
    async with httpx.AsyncClient(transport=LocalNames()) as client:
        answer = await client.get(f"http://{endpoint.endpoint}/ping", headers={**endpoint.headers, **headers})
        return answer.status_code


@pytest.fixture
async def secured(clients: Clients, shared_in: Callable[..., str]) -> AsyncIterator[Sandbox]:
    """A running sandbox that asks for a token."""
    sandbox = await clients.connect(shared_in(clients.server, secureAccess=True))
    yield sandbox
    await sandbox.close()


@pytest.mark.parametrize("mode", GATEWAY_MODES, ids=str, indirect=True)
async def test_secure_access_needs_the_token(secured: Sandbox) -> None:
    """With the endpoint's own headers execd answers; without, or with another token, it is 401."""
    assert (await secured.commands.run("echo inside")).text.strip() == "inside"
    endpoint = await secured.get_endpoint(EXECD_PORT)
    assert endpoint.headers[TOKEN_HEADER]
    assert await ping(endpoint) == 200
    assert await ping(endpoint, **{TOKEN_HEADER: "another"}) == 401
    del endpoint.headers[TOKEN_HEADER]
    assert await ping(endpoint) == 401


@pytest.mark.parametrize("mode", GATEWAY_MODES, ids=str, indirect=True)
async def test_the_servers_own_path_asks_for_the_token_too(clients: Clients, secured: Sandbox) -> None:
    """A client that goes through the server's proxy path gets the token with the endpoint, and needs it."""
    through = clients.config(use_server_proxy=True)
    sandbox = await clients.flavour.sandbox.connect(secured.id, connection_config=through)
    assert (await sandbox.commands.run("echo inside")).text.strip() == "inside"
    endpoint = await sandbox.get_endpoint(EXECD_PORT)
    assert f"/sandboxes/{secured.id}/proxy/{EXECD_PORT}" in endpoint.endpoint
    assert await ping(endpoint) == 200
    assert await ping(endpoint, **{TOKEN_HEADER: "another"}) == 401
    await sandbox.close()


def altered(signed: SandboxEndpoint) -> SandboxEndpoint:
    """The same address with another signature."""

    def spoil(text: str) -> str:
        return SIGNATURE.sub(
            lambda found: found[0].translate(str.maketrans("0123456789abcdef", "123456789abcdef0")), text
        )

    headers = {name: spoil(value) for name, value in signed.headers.items()}
    return SandboxEndpoint(endpoint=spoil(signed.endpoint), headers=headers)


@pytest.mark.parametrize("mode", GATEWAY_MODES, ids=str, indirect=True)
async def test_signed_endpoint_opens_a_secured_sandbox(secured: Sandbox) -> None:
    """A signed address needs no token, and cannot be altered."""
    signed = await secured.get_signed_endpoint(EXECD_PORT, int(time.time()) + ACCESS_SECONDS)
    assert TOKEN_HEADER not in signed.headers
    assert await ping(signed) == 200
    assert altered(signed) != signed
    assert await ping(altered(signed)) == 401


@pytest.mark.parametrize("mode", DIRECT_MODES, ids=str, indirect=True)
async def test_secure_access_is_refused_where_it_means_nothing(clients: Clients) -> None:
    """In direct mode the ports are open to everybody who reaches the host: 400 rather than a false promise."""
    with pytest.raises(SandboxApiException) as refused:
        await clients.create(secure_access=True)
    assert refused.value.status_code == 400


@pytest.fixture
async def host(engine: docker.DockerClient) -> str:
    """This machine as a sandbox sees it: its bridge's gateway."""
    bridge = await asyncio.to_thread(engine.networks.get, "bridge")
    return gateways(bridge.attrs)[0]


@pytest.fixture
async def listener(host: str) -> AsyncIterator[int]:
    """A port of this machine that lets in whoever gets there."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, host, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def reaches(sandbox: Sandbox, host: str, port: int) -> bool:
    """Whether code inside gets through to that address."""
    code = f"import socket; socket.create_connection(('{host}', {port}), {CONNECT_SECONDS})"
    return (await sandbox.commands.run(f'python3 -c "{code}"')).exit_code == 0


async def test_network_policy_holds_and_changes(clients: Clients, host: str, listener: int) -> None:
    """A denied address is out of reach from the start, is reached once a patch allows it; rules go, or all change."""
    denied = NetworkRule(action="deny", target=f"{host}/32")
    sandbox = await clients.create(network_policy=NetworkPolicy(defaultAction="allow", egress=[denied]))
    assert (await sandbox.get_egress_policy()).egress == [denied]
    assert not await reaches(sandbox, host, listener)
    await sandbox.patch_egress_rules([NetworkRule(action="allow", target=denied.target)])
    assert await reaches(sandbox, host, listener)
    await sandbox.delete_egress_rules([denied.target])
    assert not (await sandbox.get_egress_policy()).egress
    # The SDK has no call that replaces a policy whole; what the API does is what the SDK sees.
    whole = {"defaultAction": "allow", "egress": [{"action": "deny", "target": denied.target}]}
    status, answer = clients.server.call("PUT", f"/v1/sandboxes/{sandbox.id}/networkpolicy", whole)
    assert status == 200, answer
    assert (await sandbox.get_egress_policy()).egress == [denied]
    assert not await reaches(sandbox, host, listener)


async def test_credential_vault(clients: Clients) -> None:
    """Credentials and bindings are made, changed by revision and deleted, and no secret comes back."""
    host = NetworkRule(action="allow", target="api.example.test")  # a vault needs a rule for each of its hosts
    policy, proxy = NetworkPolicy(defaultAction="allow", egress=[host]), CredentialProxyConfig(enabled=True)
    vault = (await clients.create(network_policy=policy, credential_proxy=proxy)).credential_vault
    made = await vault.create(credentials=[TOKEN], bindings=[BINDING])
    assert made.bindings[0].match is not None
    assert (made.revision, made.bindings[0].match.hosts) == (1, ["api.example.test"])
    changed = await vault.patch(expected_revision=1, credentials={"add": [{**TOKEN, "name": "other"}]})
    assert changed == await vault.get()
    assert changed.credentials == await vault.list_credentials()
    assert await vault.get_credential("other") in changed.credentials
    assert [await vault.get_binding("api")] == await vault.list_bindings() == changed.bindings
    assert SECRET not in repr([made, changed])
    with pytest.raises(SandboxApiException) as refused:
        await vault.patch(expected_revision=1, credentials={"delete": ["other"]})
    assert refused.value.status_code == 409
    await vault.delete()
    with pytest.raises(SandboxApiException):
        await vault.get()


@pytest.fixture
def without_sidecar(start_server: StartServer) -> ServerProcess:
    """A server that is told of no egress image."""
    return start_server(GATEWAY_BY_HEADER)


def test_network_policy_without_a_sidecar_is_refused(without_sidecar: ServerProcess) -> None:
    """No egress image is configured: 400 that says so, and no sandbox."""
    status, answer = without_sidecar.call("POST", "/v1/sandboxes", request(networkPolicy={"defaultAction": "deny"}))
    assert status == 400
    assert "egress" in answer["message"]
    assert without_sidecar.call("GET", "/v1/sandboxes")[1]["items"] == []
