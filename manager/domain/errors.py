"""Every way a request to the manager fails, by kind; the wire code is an argument, the HTTP status is the API's.

A kind says what the caller can do about it; `manager/api/errors.py` holds the one table from kind to status.
"""

from __future__ import annotations


class ManagerError(Exception):
    """Raised when the manager refuses or fails a request, in words meant for the caller.

    `code` is the wire code (`reference` table: `SANDBOX::…`, `DOCKER::…`, `VOLUME::…`, `SNAPSHOT::…`), `message`
    says what happened and what to do next, `retry_after` is in seconds where the caller should come back.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Invalid(ManagerError):
    """Raised when the request itself is wrong: sending it again unchanged cannot succeed."""


class Unauthorized(ManagerError):
    """Raised when a credential is missing or wrong."""


class Forbidden(ManagerError):
    """Raised when the caller is known and may not do this."""


class Misdirected(ManagerError):
    """Raised when the request came here under a name that is not this server's."""


class NotFound(ManagerError):
    """Raised when what the request names does not exist."""


class Gone(NotFound):
    """Raised when what the request names did exist and has come to its end by itself."""


class Conflict(ManagerError):
    """Raised when the state of the thing does not allow it now."""


class TooMany(ManagerError):
    """Raised when a limit on number or rate is reached."""


class TooLarge(ManagerError):
    """Raised when a request is larger than the server takes."""


class Failed(ManagerError):
    """Raised when the runtime tried and could not; the cause is in the message."""


class Unsupported(ManagerError):
    """Raised when this runtime cannot do what the request asks for, whatever its state."""


class Unavailable(ManagerError):
    """Raised when something the request needs does not answer at present."""


class BadBackend(ManagerError):
    """Raised when a backend to which the server forwards the request sends an unexpected response."""


class TimedOut(ManagerError):
    """Raised when the runtime did not finish within its time limit."""
