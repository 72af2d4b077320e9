"""Callers of the REST API: `[[server.api_keys]]`, and allowed origins and hosts."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from manager.settings.table import Table, option
from manager.settings.values import Lower, OrNone, host

DEFAULT_KEY: Final = "default"
"""The name of `server.api_key` among the keys."""
LEAST_KEY: Final = 8
"""Characters below which a key is guessed sooner or later."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None or text == DEFAULT_KEY:
        raise ValueError(
            f'must be 1 to 63 letters, digits, "." "_" or "-", and not "{DEFAULT_KEY}", which is server.api_key'
        )
    return text


def _key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text.strip()) < LEAST_KEY or text != text.strip():
        raise ValueError(f"must have at least {LEAST_KEY} characters and no space around them")
    return value


def origin(text: str) -> str:
    """`*`, or the origin of a page as browsers send it: `scheme://host[:port]`; raises ValueError otherwise."""
    parts = urlsplit(text)
    plain = parts.scheme in ("http", "https") and parts.hostname and text == f"{parts.scheme}://{parts.netloc}"
    if text != "*" and (not plain or "@" in text):
        raise ValueError('must be "*" or origins such as "https://console.example.com:8443"')
    return text.lower()


Origin = Annotated[str, AfterValidator(origin)]


def host_pattern(text: str) -> str:
    """A host name, `*.` and a domain for every name under it, or `*`; raises ValueError otherwise."""
    if text != "*":
        try:
            host(text.removeprefix("*."))
        except ValueError:
            raise ValueError('must be host names such as "box.example.com" or "*.example.com", or "*"') from None
    return text.lower()


HostPattern = Annotated[str, AfterValidator(host_pattern)]


class ApiKeySettings(Table):
    """`[[server.api_keys]]`"""

    name: Annotated[str, AfterValidator(_name)] = option(
        doc="What the key is called in logs and metrics; what it makes belongs to this name"
    )
    key: Annotated[SecretStr, AfterValidator(_key)] = option(secret=True, doc="The key, at least 8 characters")
    scope: Annotated[Literal["admin", "full", "read", "own"], Lower] = option(
        "full",
        doc='"admin", also called "full", sees and changes everything; "read" sees everything but credentials; '
        '"own" sees and changes what was made with it, and nothing else',
    )
    max_sandboxes: Annotated[int | None, OrNone] = option(
        None, least=1, doc="Most sandboxes made with this key that exist at once; unset means no limit"
    )
