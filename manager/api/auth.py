"""Authentication by API key, and calls that are refused whatever the key.

Without a key the API is open, which is meant for a developer's machine. A browser there runs untrusted pages, so
cross-origin calls are refused then. Code inside a sandbox must not create sandboxes:
calls that come from a sandbox's address, of whatever server on the Engine, are refused unless the configuration allows
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.access.api_keys import KeyAttempts
from manager.domain.errors import Forbidden, TooMany, Unauthorized
from manager.services.api_keys import ApiKey, ApiKeys

KEY_HEADER = "OPEN-SANDBOX-API-KEY"

MISSING = "MISSING_API_KEY"
WRONG = "INVALID_API_KEY"
CROSS_ORIGIN = "CROSS_ORIGIN_FORBIDDEN"
FROM_SANDBOX = "SANDBOX_CALLER_FORBIDDEN"

THROTTLED = "TOO_MANY_FAILED_ATTEMPTS"
READ_ONLY = "API_KEY_READ_ONLY"

_BEARER = "bearer "
_SPACE = " \t"
READING = frozenset({"GET", "HEAD"})


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key a request carries: in its own header, else, where that is missing or empty, as a bearer token."""
    key = headers.get(KEY_HEADER, "").strip(_SPACE)
    if key:
        return key
    authorization = headers.get("Authorization", "")
    return authorization[len(_BEARER) :].strip(_SPACE) if authorization[: len(_BEARER)].lower() == _BEARER else None


def identify(presented: str | None, keys: ApiKeys, guesses: KeyAttempts, address: str, now: float) -> ApiKey:
    """The key of the caller at `address`; raises Unauthorized, and TooMany after too many wrong ones."""
    if not presented:
        raise Unauthorized(MISSING, f"Authentication credentials are missing. Provide API key via {KEY_HEADER} header.")
    key = keys.find(presented)
    wait = guesses.attempt(address, None if key is None else key.secret.encode(), now)
    if wait:
        message = "Too many wrong API keys came from your address. Wait a little, then send the right one."
        raise TooMany(THROTTLED, message, retry_after=wait)
    if key is None:
        raise Unauthorized(WRONG, "Authentication credentials are invalid. Check your API key and try again.")
    return key


def check_scope(key: ApiKey, method: str) -> None:
    """Raises Forbidden when the key is read-only."""
    if key.read_only and method not in READING:
        raise Forbidden(READ_ONLY, f"The API key {key.name!r} may only read.")


def check_origin(headers: Mapping[str, str]) -> None:
    """Raises Forbidden for a call that a browser makes on behalf of another site's page."""
    origin = headers.get("Origin")
    foreign = origin is not None and urlsplit_netloc(origin) != headers.get("Host", "").lower()
    if foreign or headers.get("Sec-Fetch-Site", "").lower() == "cross-site":
        raise Forbidden(
            CROSS_ORIGIN,
            "A page of another origin may not call a server without an API key. Set server.api_key and send it.",
        )


def urlsplit_netloc(origin: str) -> str:
    """Host and port of an origin in lower case; `null` and what is no origin have none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
