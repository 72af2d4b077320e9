"""How clients reach sandboxes: `[ingress]` with its gateway and its signing keys."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from manager.settings.table import Table, option
from manager.settings.values import (
    ADDRESS_WORDS,
    WILDCARD_WORDS,
    Host,
    KeyMaterial,
    Lower,
    OptionalText,
    OrNone,
    Wildcard,
    parse_wildcard,
    secret_bytes,
)

RouteMode = Literal["wildcard", "uri", "header"]
_KEY_ID = re.compile(r"[0-9a-z]")


def _wildcard_or_none(value: str | None) -> str | None:
    return None if value is None else str(parse_wildcard(value))


def _key_id(text: str) -> str:
    if _KEY_ID.fullmatch(text) is None:
        raise ValueError("must be one character of 0-9 and a-z")
    return text


KeyId = Annotated[str, AfterValidator(_key_id)]
OptionalKeyId = Annotated[str | None, OrNone, AfterValidator(lambda v: None if v is None else _key_id(v))]


class RouteSettings(Table):
    """`[ingress.gateway.route]`"""

    mode: Annotated[RouteMode, Lower] = option(
        "wildcard", doc="The form endpoints are answered in: a host of its own, a path, or a header"
    )


class IngressGatewaySettings(Table):
    """`[ingress.gateway]`"""

    address: OptionalText = option(
        None,
        allowed=ADDRESS_WORDS,
        doc='Public address of this gateway without scheme; in wildcard mode "*.domain[:port]" or the bare domain',
    )
    route: RouteSettings = option(RouteSettings, doc="The form of endpoints")
    wildcard: Annotated[str | None, OrNone, AfterValidator(_wildcard_or_none)] = option(
        None, allowed=WILDCARD_WORDS, doc="Wildcard hosts beside another route mode; in wildcard mode the address is it"
    )
    api_hosts: tuple[Host, ...] = option(
        (),
        allowed="a list of host names",
        doc="Hosts under the wildcard domain that are the REST API's, not a sandbox's",
    )

    @property
    def wildcard_domain(self) -> Wildcard | None:
        """The domain of wildcard hosts: the address in wildcard mode, else the key beside it; None without either."""
        text = self.address if self.route.mode == "wildcard" else self.wildcard
        return None if text is None else parse_wildcard(text)


class SigningKey(Table):
    """`[[ingress.secure_access.keys]]`"""

    key_id: KeyId = option(
        allowed="one character of 0-9 and a-z", doc="Name of the key inside a signature; one character"
    )
    key: KeyMaterial = option(secret=True, doc="Secret in base64, padding optional")


class SecureAccessSettings(Table):
    """`[ingress.secure_access]`"""

    active_key: OptionalKeyId = option(
        None,
        allowed="one character of 0-9 and a-z",
        doc="The key new signatures are made with; OPENSANDBOX_SECURE_ACCESS_ACTIVE_KEY overrides it",
    )
    keys: tuple[SigningKey, ...] = option(
        (),
        secret=True,
        doc="Keys signatures are checked with; OPENSANDBOX_SECURE_ACCESS_KEYS=id=base64,… overrides them",
    )

    @property
    def secrets(self) -> dict[str, bytes]:
        """Key material by key id."""
        return {item.key_id: secret_bytes(item.key.get_secret_value()) for item in self.keys}


class IngressSettings(Table):
    """`[ingress]`"""

    mode: Annotated[Literal["direct", "gateway"], Lower] = option(
        "direct", doc="Whether endpoints name the sandboxes' own addresses or this gateway's"
    )
    gateway: IngressGatewaySettings = option(IngressGatewaySettings, doc="Used when ingress.mode is gateway")
    secure_access: SecureAccessSettings = option(SecureAccessSettings, doc="Keys of signed routes")
