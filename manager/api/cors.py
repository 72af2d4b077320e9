"""CORS of the REST API: which origins may call, and the headers that tell browsers. Pure.

API keys are sent in headers that a page must set itself, never in cookies, so allowing any origin gives no page
anything that its author did not have already. A server without a key allows none: there the network position is the
credential.
"""

from __future__ import annotations

from collections.abc import Mapping

from manager.domain.errors import Forbidden
from manager.services.api_keys import Origins

ORIGIN_FORBIDDEN = "ORIGIN_FORBIDDEN"

_EXPOSED = "OPEN-SANDBOX-ORIGIN, X-Request-ID, Location, Retry-After, ETag, Preference-Applied"
_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_MAX_AGE = "600"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether the request is a CORS preflight."""
    return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def headers(request: Mapping[str, str], origins: Origins) -> dict[str, str]:
    """The CORS headers of every response: `Vary: Origin`, and whether this origin may read it."""
    answer = {"Vary": "Origin"}
    origin = request.get("Origin")
    if origin is not None and origins.allows(origin):
        answer["Access-Control-Allow-Origin"] = origin
        answer["Access-Control-Allow-Credentials"] = "true"
        answer["Access-Control-Expose-Headers"] = _EXPOSED
    return answer


def preflight(request: Mapping[str, str], origins: Origins) -> dict[str, str]:
    """The further headers of a preflight's response; raises Forbidden for an origin that may not call."""
    origin = request["Origin"]
    if not origins.allows(origin):
        raise Forbidden(ORIGIN_FORBIDDEN, "Pages of this origin may not call; see server.cors_origins.")
    asked = request.get("Access-Control-Request-Headers")
    answer = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": _MAX_AGE}
    if request.get("Access-Control-Request-Private-Network") == "true":
        answer["Access-Control-Allow-Private-Network"] = "true"
    return answer | ({"Access-Control-Allow-Headers": asked} if asked else {})
