"""Where a client reaches a port of a sandbox: an address without scheme, and the headers to send along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway import signing
from gateway.addressing.routing import format_host, format_label, format_path, format_proxy
from gateway.signing import Signature
from manager.domain.codes import API_NOT_SUPPORTED, INVALID_PARAMETER, Codes
from manager.domain.errors import Failed, Invalid, Unavailable
from manager.domain.sandbox import EGRESS_PORT, EXECD_PORT, Sandbox, SandboxState
from manager.services.clock import Clock
from manager.services.public_host import (
    bare_host,
    bracketed,
    configured_host,
    is_loopback,
    outward_address,
    public_base,
)
from manager.services.sandboxes import Sandboxes
from manager.settings.ingress import SecureAccessSettings
from manager.settings.model import Settings

INGRESS_HEADER = "OpenSandbox-Ingress-To"
ACCESS_HEADER = "OpenSandbox-Secure-Access"
EGRESS_HEADER = "OPENSANDBOX-EGRESS-AUTH"

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address `host[:port][/path]` and the headers that requests to it need."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """How the caller reached the API: the `Host` of its request, and whether it used the paths under `/v1`."""

    host: str
    versioned: bool


def direct_address(sandbox: Sandbox, port: int, host: str) -> str | None:
    """The address of the port without the gateway: published › relayed by execd; None when there is none.

    `host` is the public one; an Engine on another machine is reached at its own.
    """
    addresses = sandbox.addresses

    def public(dialled: str) -> str:
        ours = is_loopback(dialled) or dialled == addresses.private_host
        return host if ours else bracketed(dialled)

    if addresses.host_network:
        return f"{host if addresses.dial_host is None else public(addresses.dial_host)}:{port}"
    published = None if port in sandbox.relayed else addresses.published.get(port)
    suffix = ""
    if published is None:
        published = addresses.published.get(EXECD_PORT)
        suffix = f"/proxy/{port}"
    if published is None:
        return None
    dialled, number = published
    return f"{public(dialled)}:{number}{suffix}"


@dataclass(frozen=True, slots=True)
class Signing:
    """Parameters of a signed address: `expires` in epoch seconds, and the requests it is limited to.

    The long form cannot be guessed and may be bound to methods and to paths under one prefix.
    """

    expires: int
    long: bool = False
    methods: tuple[str, ...] = ()
    path: str = "/"


class Endpoints:
    """Builds endpoints in the configured address form."""

    def __init__(self, settings: Settings, runtime_name: str, sandboxes: Sandboxes, clock: Clock) -> None:
        self._settings = settings
        self._sandboxes = sandboxes
        self._clock = clock
        self._codes = Codes(runtime_name)
        self._configured_host = configured_host(settings)
        self._own_host = self._configured_host or outward_address()
        self._gateway = settings.ingress.mode == "gateway"
        self._signing = settings.ingress.secure_access

    def sign_with(self, keys: SecureAccessSettings) -> None:
        """Addresses are signed with these keys from now on."""
        self._signing = keys

    async def locate(
        self, sandbox_id: str, port: int, caller: Caller, *, server_proxy: bool = False, signed: Signing | None = None
    ) -> Endpoint:
        """The endpoint of one port, its address signed where `signed` is given.

        Raises Invalid, NotFound, Unavailable.
        """
        if not 1 <= port <= MAX_PORT:
            raise Invalid(self._codes.invalid_port, f"Port must be between 1 and {MAX_PORT}.")
        if server_proxy and signed is not None:
            raise Invalid(
                INVALID_PARAMETER,
                "use_server_proxy cannot be combined with expires; signed endpoints require the gateway route.",
            )
        sandbox = await self._sandboxes.get(sandbox_id)
        signature = None if signed is None else self._sign(sandbox, port, signed)
        headers = _credentials(sandbox, port, signed=signature is not None)
        if server_proxy:
            return Endpoint(self._proxied(sandbox, port, caller), headers)
        if not self._gateway:
            return Endpoint(self._direct(sandbox, port, caller), headers)
        return self._through_gateway(sandbox, port, signature, headers)

    def _proxied(self, sandbox: Sandbox, port: int, caller: Caller) -> str:
        base = public_base(self._settings)
        if base is not None:
            return base + format_proxy(sandbox.id, port, version=caller.versioned and not base.endswith("/v1"))
        return caller.host + format_proxy(sandbox.id, port, version=caller.versioned)

    def _direct(self, sandbox: Sandbox, port: int, caller: Caller) -> str:
        address = direct_address(sandbox, port, self._host_for(sandbox, caller))
        if address is not None:
            return address
        if sandbox.status.state is SandboxState.PENDING:
            raise Unavailable(
                self._codes.endpoint_unavailable, f"Sandbox {sandbox.id} is still being created.", retry_after=1
            )
        raise Failed(
            self._codes.endpoint_unavailable,
            f"No published port leads to port {port} of sandbox {sandbox.id} (it is {sandbox.status.state.value}). "
            "Ask with use_server_proxy=true, or set ingress.mode = gateway.",
        )

    def _host_for(self, sandbox: Sandbox, caller: Caller) -> str:
        """Where this process is in a container, its own address is of no use to the caller: the `Host` it used is."""
        asked = bare_host(caller.host)
        if self._configured_host is None and asked and sandbox.addresses.private_host:
            return asked
        return self._own_host

    def _through_gateway(
        self, sandbox: Sandbox, port: int, signature: Signature | None, headers: dict[str, str]
    ) -> Endpoint:
        gateway = self._settings.ingress.gateway
        address, mode = (gateway.address or "").rstrip("/"), gateway.route.mode
        if mode == "header":
            headers = {INGRESS_HEADER: format_label(sandbox.id, port, signature), **headers}
            return Endpoint(address, headers)
        if mode == "uri":
            return Endpoint(address + format_path(sandbox.id, port, signature), headers)
        try:
            return Endpoint(format_host(address.removeprefix("*."), sandbox.id, port, signature), headers)
        except ValueError as error:
            raise Invalid(INVALID_PARAMETER, f"port: no wildcard address for it: {error}") from error

    def _sign(self, sandbox: Sandbox, port: int, wanted: Signing) -> Signature:
        if not self._gateway:
            raise Invalid(API_NOT_SUPPORTED, "expires: signed endpoints need ingress.mode = gateway on this server.")
        name, keys = self._signing.active_key, self._signing.secrets
        if name is None:
            raise Invalid(INVALID_PARAMETER, "expires: no key for signing is configured ([ingress.secure_access]).")
        if wanted.expires <= self._clock().timestamp():
            raise Invalid(INVALID_PARAMETER, f"expires: must be in the future, in epoch seconds, got {wanted.expires}")
        try:
            if not wanted.long:
                return signing.sign(name, keys[name], sandbox.id, port, wanted.expires)
            return signing.sign_long(
                name, keys[name], sandbox.id, port, wanted.expires, methods=wanted.methods, path=wanted.path
            )
        except ValueError as error:
            raise Invalid(INVALID_PARAMETER, f"this address cannot be signed: {error}") from error


def _credentials(sandbox: Sandbox, port: int, *, signed: bool) -> dict[str, str]:
    headers: dict[str, str] = {}
    if sandbox.secure_token and not signed:
        headers[ACCESS_HEADER] = sandbox.secure_token
    if sandbox.egress_token and port == EGRESS_PORT:
        headers[EGRESS_HEADER] = sandbox.egress_token
    return headers
