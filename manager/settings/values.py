"""The kinds of value a configuration holds, each a pure check whose message says what is allowed."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, SecretStr

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_WORDS: Final = "an IP address or a host name, without scheme, port or path"
ADDRESS_WORDS: Final = (
    'a host name or IP address with an optional port, without scheme or path ("gateway.example.com:8080")'
)
WILDCARD_WORDS: Final = (
    '"*." and a domain, with an optional port ("*.sandbox.example.com:8443"); the "*." may be left out'
)

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LEVEL_ALIASES: Final = {"WARN": "WARNING", "FATAL": "CRITICAL"}

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NETWORK_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CAPABILITY: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_IMAGE: Final = re.compile(r"[\x21-\x7e]+")
_MAX_HOST_NAME: Final = 253
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Wildcard:
    """The domain under which every sandbox port has a host of its own, and the public port if it is not the usual."""

    domain: str
    port: int | None = None

    def __str__(self) -> str:
        return f"*.{self.domain}" if self.port is None else f"*.{self.domain}:{self.port}"


def host(text: str) -> str:
    """An IP address (IPv6 with or without brackets) or a host name; raises ValueError otherwise."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return _host_name(text)


def _host_name(text: str) -> str:
    labels = text.removesuffix(".").split(".")
    # A last label of digits only would be read as an IPv4 address by everything that connects.
    wrong = len(text) > _MAX_HOST_NAME or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels))
    if wrong:
        raise ValueError(f"must be {HOST_WORDS}")
    return text


def split_address(text: str) -> tuple[str, int | None]:
    """Host and optional port of `host`, `host:port`, `[v6]:port`; raises ValueError otherwise."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?", text)
    if found is None:
        raise ValueError(f"must be {ADDRESS_WORDS}")
    port = int(found[2]) if found[2] else None
    if port is not None and not 1 <= port <= _MAX_PORT:
        raise ValueError(f"must have a port from 1 to {_MAX_PORT}")
    try:
        return host(found[1]), port
    except ValueError:
        raise ValueError(f"must be {ADDRESS_WORDS}") from None


def parse_wildcard(text: str) -> Wildcard:
    """Reads `*.domain[:port]`, or the bare domain which means the same; raises ValueError otherwise."""
    try:
        name, port = split_address(text.removeprefix("*."))
    except ValueError:
        raise ValueError(f"must be {WILDCARD_WORDS}") from None
    if _is_ip(name):
        raise ValueError(f"must be {WILDCARD_WORDS}; an IP address has no hosts below it")
    return Wildcard(name.lower().removesuffix("."), port)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def level(text: str) -> str:
    """A logging level of Python by name, in any case; WARN and FATAL are read as what they mean."""
    name = _LEVEL_ALIASES.get(text.upper(), text.upper())
    if name not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return name


def secret_bytes(text: str) -> bytes:
    """Key material written as base64, with or without padding; raises ValueError without showing it."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        raise ValueError("must be base64 of at least one byte")
    return raw


def _network_name(text: str) -> str:
    if text.lower() in ("host", "bridge"):
        return text.lower()
    if text.lower() == "none" or _NETWORK_NAME.fullmatch(text) is None:
        raise ValueError('must be "host", "bridge" or the name of a Docker network')
    return text


def _capability(text: str) -> str:
    name = text.upper().removeprefix("CAP_")
    if _CAPABILITY.fullmatch(name) is None:
        raise ValueError('must be names of Linux capabilities such as "NET_RAW"')
    return name


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError('must be IP addresses such as "10.0.0.2"') from None


def _network(value: Any) -> Network:
    try:
        # A number would be an address as well, and `true` is a number to Python.
        return ipaddress.ip_network(value if isinstance(value, str) else "", strict=False)
    except ValueError:
        raise ValueError('must be an IP address or a network such as "10.0.0.0/8"') from None


def _image(text: str) -> str:
    if _IMAGE.fullmatch(text) is None:
        raise ValueError('must be an image reference such as "opensandbox/execd:latest", without spaces')
    return text


def _key_material(value: SecretStr) -> SecretStr:
    secret_bytes(value.get_secret_value())
    return value


def blank_is_none(value: Any) -> Any:
    """TOML has no null: an empty string is how a file says "not set"."""
    return None if isinstance(value, str) and not value.strip() else value


def _unlimited(value: Any) -> Any:
    return None if value in (0, "unlimited") and value is not False else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _host_or_none(value: str | None) -> str | None:
    return None if value is None else host(value)


OrNone = BeforeValidator(blank_is_none)
Lower = BeforeValidator(_lower)
OptionalText = Annotated[str | None, OrNone]
OptionalPath = Annotated[str | None, OrNone, AfterValidator(lambda v: None if v is None else os.path.expanduser(v))]
OptionalSecret = Annotated[SecretStr | None, OrNone]
KeyMaterial = Annotated[SecretStr, AfterValidator(_key_material)]
Host = Annotated[str, AfterValidator(host)]
OptionalHost = Annotated[str | None, OrNone, AfterValidator(_host_or_none)]
Level = Annotated[str, AfterValidator(level)]
NetworkName = Annotated[str, AfterValidator(_network_name)]
Capability = Annotated[str, AfterValidator(_capability)]
IpAddress = Annotated[str, AfterValidator(_address)]
Image = Annotated[str, AfterValidator(_image)]
OptionalImage = Annotated[str | None, OrNone, AfterValidator(lambda v: None if v is None else _image(v))]
CountOrUnlimited = Annotated[int | None, BeforeValidator(_unlimited)]
Cidr = Annotated[Network, BeforeValidator(_network)]
