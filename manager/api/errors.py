"""The one table from the class of an error to its HTTP status, and the JSON envelope of every error response."""

from __future__ import annotations

import math
from http import HTTPStatus

from aiohttp import web

from manager.api.schemas.server import ErrorView
from manager.domain import errors

STATUSES: dict[type[errors.ManagerError], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.Misdirected: 421,
    errors.TooMany: 429,
    errors.Failed: 500,
    errors.Unsupported: 501,
    errors.BadBackend: 502,
    errors.Unavailable: 503,
    errors.TimedOut: 504,
    errors.ManagerError: 500,
}

_RETRY_AFTER = {429: 1.0, 503: 5.0}
"""The default `Retry-After` in seconds of these two statuses."""


def status_of(error: errors.ManagerError) -> int:
    """The status of a failure: that of the nearest class in the table."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def envelope(status: int, code: str, message: str, retry_after: float | None = None) -> web.Response:
    """A failure as it is sent."""
    words = message.encode(errors="backslashreplace").decode()  # it may repeat bytes of a header that are no text
    text = ErrorView(code=code, message=words).to_json()
    response = web.Response(status=status, text=text, content_type="application/json")
    seconds = retry_after if retry_after is not None else _RETRY_AFTER.get(status)
    if seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def answer(error: errors.ManagerError) -> web.Response:
    """The answer to a failure of the manager."""
    return envelope(status_of(error), error.code, error.message, error.retry_after)
