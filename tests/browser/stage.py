"""The gateway in the test's own process, with programs of this machine standing behind ports of its sandboxes."""

from __future__ import annotations

import contextlib
import enum
import ssl
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.access.credentials import AccessRule, Keyring
from gateway.addressing.routing import RoutingConfig, format_host, format_path, format_proxy
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.signing import Signature, sign
from gateway.table import RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

DOMAIN: Final = "sandbox.test"
PLAIN_HOST: Final = "gateway.test"
"""A name of the gateway outside the wildcard domain, for the forms that are paths."""
KEY_ID: Final = "k"
CONNECT_BUDGET: Final = 0.5
SECRET: Final = b"a secret for browsers"


class Form(enum.Enum):
    """The ways of addressing that a browser can use; a browser cannot send the routing header."""

    HOST = "host"
    URI = "uri"
    PROXY = "proxy"


class Stage:
    """A listening gateway and what stands behind it."""

    def __init__(
        self,
        domain: str = DOMAIN,
        plain: str = PLAIN_HOST,
        tls: ssl.SSLContext | None = None,
        cors_origins: Iterable[bytes] = (),
    ) -> None:
        self.table = RouteTable()
        self.table.synced = True
        self.domain = domain
        self.plain = plain
        self._tls = tls
        api_hosts = frozenset({plain.encode()})
        routing = RoutingConfig(gateway=True, uri=True, wildcard=domain.encode(), api_hosts=api_hosts)
        self._keyring = Keyring({KEY_ID.encode(): SECRET})
        options = GatewayOptions(
            routing=routing, limits=Limits(connect_budget=CONNECT_BUDGET), cors_origins=frozenset(cors_origins)
        )
        self.gateway = Gateway(self.table, options, keyring=self._keyring)
        self.port = 0

    async def start(self) -> None:
        """Listens on a free port of 127.0.0.1."""
        await self.gateway.listen("127.0.0.1", 0, tls=self._tls)
        self.port = self.gateway.addresses[0][1]

    async def stop(self) -> None:
        """Drops everything."""
        await self.gateway.stop()

    def put(
        self,
        id: str,
        ports: dict[int, int],
        *,
        token: bytes | None = None,
        state: RouteState = RouteState.RUNNING,
        keep_prefix: Iterable[int] = (),
    ) -> SandboxRoute:
        """Makes a sandbox known whose ports are these ports of 127.0.0.1, or changes what is known of it."""
        reach = Targets(published={inside: ("127.0.0.1", outside) for inside, outside in ports.items()})
        kept = frozenset(keep_prefix)
        access = None if token is None else AccessRule(token)
        return self.table.put(SandboxRoute(id, "1", reach, state=state, access=access, keep_prefix=kept))

    @contextlib.contextmanager
    def other_keys(self) -> Iterator[None]:
        """Meanwhile signatures are checked with another key than the one that makes them."""
        self.gateway.set_keyring(Keyring({b"z": SECRET}))
        yield
        self.gateway.set_keyring(self._keyring)

    def address(self, form: Form, id: str, port: int, path: str = "/", *, expires: int | None = None) -> str:
        """The URL of a path in a sandbox port, signed when it expires."""
        signature = None if expires is None else sign(KEY_ID, SECRET, id, port, expires)
        return f"{self._base(form, id, port, signature)}{path}"

    def _base(self, form: Form, id: str, port: int, signature: Signature | None) -> str:
        scheme = "http" if self._tls is None else "https"
        if form is Form.HOST:
            return f"{scheme}://{format_host(f'{self.domain}:{self.port}', id, port, signature)}"
        if form is Form.URI:
            return f"{scheme}://{self.plain}:{self.port}{format_path(id, port, signature)}"
        if signature is not None:
            raise ValueError("there is no signed proxy path")
        return f"{scheme}://{self.plain}:{self.port}{format_proxy(id, port)}"
