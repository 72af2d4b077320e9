"""Every way a proxied request fails: status, code, message, and whether a retry helps.

One class per failure, so that the type decides what happens next (retry, close, log) and never the text. The codes
without a prefix are those that clients of the platform know already; `docs/errors.md` lists all of them. Messages are
written for whoever made the request: they say what to do next and name neither an internal address nor a secret.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import ClassVar, Final

_SHOWN_BYTES: Final = 80
"""How much of what is no HTTP is kept for the log."""


class GatewayError(Exception):
    """Raised when a request cannot be proxied, in words meant for whoever sent it."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    """The status of the answer."""
    code: ClassVar[str] = "GATEWAY::INTERNAL_ERROR"
    """The wire code: stable, for programs."""
    title: ClassVar[str] = "Something went wrong"
    """The heading of the page that a browser is shown."""
    default: ClassVar[str] = "The gateway failed on this request. Send it again; if it persists, tell the operator."
    """The message where the raiser has nothing better to say."""
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without anybody changing anything."""
    wait: ClassVar[int | None] = None
    """Seconds for `Retry-After` unless the raiser knows better."""
    refresh: ClassVar[int] = 0
    """Seconds after which the page for browsers reloads itself; 0 means it does not."""
    closes: ClassVar[bool] = False
    """Whether the client connection cannot be used after this answer."""
    log_level: ClassVar[int] = logging.DEBUG
    """Level of the one line that may be logged: what clients can cause at will stays at debug."""

    def __init__(self, message: str | None = None, *, retry_after: int | None = None) -> None:
        self.message = self.default if message is None else message
        self.retry_after = self.wait if retry_after is None else retry_after
        super().__init__(self.message)


# The request itself: nothing of it reached a sandbox.


class BadRequest(GatewayError):
    """Raised when the bytes of a request are not one unambiguous HTTP/1.1 message."""

    status = HTTPStatus.BAD_REQUEST
    code = "GATEWAY::BAD_REQUEST"
    title = "Bad request"
    default = "This is not a well-formed HTTP/1.1 request. Check its head, its length and its encoding."
    closes = True


class BadRoute(GatewayError):
    """Raised when an address has the shape of a sandbox address and is not a valid one."""

    status = HTTPStatus.BAD_REQUEST
    code = "GATEWAY::INVALID_ROUTE"
    title = "Not a sandbox address"
    default = "This is not the address of a sandbox port. Ask the endpoint API for the address."


class UriTooLong(GatewayError):
    """Raised when the request target is longer than the limit."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    code = "GATEWAY::URI_TOO_LONG"
    title = "Address too long"
    default = "The request target is longer than this gateway takes. Send the data in the body."
    closes = True


class HeadTooLarge(GatewayError):
    """Raised when a request head has more bytes or more lines than the limits."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    code = "GATEWAY::HEAD_TOO_LARGE"
    title = "Request head too large"
    default = "The request headers are larger than this gateway takes. Send fewer or shorter headers or cookies."
    closes = True


class BodyTooLarge(GatewayError):
    """Raised when a request body is, or grows, larger than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "GATEWAY::BODY_TOO_LARGE"
    title = "Upload too large"
    default = "The request body is larger than this gateway takes. Send it in smaller parts."
    closes = True


class HeadTimeout(GatewayError):
    """Raised when a request head does not arrive whole in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "GATEWAY::HEAD_TIMEOUT"
    title = "Request timed out"
    default = "The request head did not arrive in time. Send the request again."
    retryable = True
    closes = True


class BodyTimeout(GatewayError):
    """Raised when the client stops sending a body it has announced."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "GATEWAY::BODY_TIMEOUT"
    title = "Upload timed out"
    default = "The rest of the request body did not arrive in time. Send the request again."
    retryable = True
    closes = True


class UnknownMethod(GatewayError):
    """Raised when the method is none that the parser knows."""

    status = HTTPStatus.NOT_IMPLEMENTED
    code = "GATEWAY::UNKNOWN_METHOD"
    title = "Unknown method"
    default = "This gateway does not know the request method. Use a registered HTTP method."
    closes = True


class UnsupportedVersion(GatewayError):
    """Raised when the request is neither HTTP/1.1 nor HTTP/1.0."""

    status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    code = "GATEWAY::UNSUPPORTED_VERSION"
    title = "Protocol version not supported"
    default = "This gateway speaks HTTP/1.1 and HTTP/1.0. Put a proxy in front that translates other versions."
    closes = True


# May this request enter?


class AccessDenied(GatewayError):
    """Raised when the sandbox asks for a credential and the one sent is missing, wrong or expired."""

    status = HTTPStatus.UNAUTHORIZED
    code = "MISSING_OR_INVALID_SECURE_ACCESS"
    title = "Access denied"
    default = (
        "This sandbox asks for a credential. Send its token in the OpenSandbox-Secure-Access header, "
        "or ask its owner for a signed address."
    )


class ApiKeyRequired(GatewayError):
    """Raised when the proxy path is for holders of an API key only and the request holds none."""

    status = HTTPStatus.UNAUTHORIZED
    code = "INVALID_API_KEY"
    title = "API key required"
    default = "This path needs a key of the management API. Send it in the OPEN-SANDBOX-API-KEY header."


class TooManyGuesses(GatewayError):
    """Raised when so many wrong keys came from one address that keys not seen from there before have to wait."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "TOO_MANY_FAILED_ATTEMPTS"
    title = "Too many wrong keys"
    default = "Too many wrong API keys came from your address. Wait a little, then send the right one."
    retryable = True
    wait = 1


class NoKeys(GatewayError):
    """Raised when a signed address comes in and the gateway has no key to check signatures with."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "GATEWAY::SIGNING_NOT_CONFIGURED"
    title = "Signed addresses are not set up"
    default = "This gateway has no signing keys. The operator sets them in [ingress.secure_access]."
    log_level = logging.WARNING


class TooManyFailures(GatewayError):
    """Raised when short signatures of one sandbox have failed so often that they are not looked at for a while."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "GATEWAY::TOO_MANY_FAILURES"
    title = "Too many invalid signatures"
    default = (
        "Too many invalid signatures were tried on this sandbox. Try again later, or use its token or a long signature."
    )
    retryable = True
    wait = 10


# The sandbox and its state.


class SandboxNotFound(GatewayError):
    """Raised when no sandbox has the id of the address."""

    status = HTTPStatus.NOT_FOUND
    code = "GATEWAY::SANDBOX_NOT_FOUND"
    title = "Sandbox not found"
    default = "There is no sandbox with this id. Check the address, or create a sandbox."


class SandboxDeleted(GatewayError):
    """Raised when the sandbox existed and was deleted."""

    status = HTTPStatus.GONE
    code = "GATEWAY::SANDBOX_DELETED"
    title = "Sandbox deleted"
    default = "This sandbox was deleted. Create a new one."


class SandboxExpired(GatewayError):
    """Raised when the sandbox existed and reached the end of its lifetime."""

    status = HTTPStatus.GONE
    code = "GATEWAY::SANDBOX_EXPIRED"
    title = "Sandbox expired"
    default = "This sandbox reached the end of its lifetime. Create a new one, with a longer timeout."


class SandboxStarting(GatewayError):
    """Raised when the sandbox is being created or resumed and cannot answer yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "GATEWAY::SANDBOX_STARTING"
    title = "Sandbox is starting"
    default = "This sandbox is starting. Try again in a moment."
    retryable = True
    wait = 1
    refresh = 2


class SandboxPaused(GatewayError):
    """Raised when the sandbox was paused and does not wake on requests: waiting alone does not help, hence no 503."""

    status = HTTPStatus.CONFLICT
    code = "GATEWAY::SANDBOX_PAUSED"
    title = "Sandbox is paused"
    default = "This sandbox is paused. Resume it through the API, then send the request again."
    refresh = 10


class SandboxWaking(GatewayError):
    """Raised when a request has woken a paused sandbox and the waiting ran out before it answered."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "GATEWAY::SANDBOX_WAKING"
    title = "Sandbox is waking up"
    default = "This sandbox was paused and is waking up. Try again in a moment."
    retryable = True
    wait = 1
    refresh = 2


class SandboxStopped(GatewayError):
    """Raised when the sandbox still exists and its main process has ended."""

    status = HTTPStatus.CONFLICT
    code = "GATEWAY::SANDBOX_STOPPED"
    title = "Sandbox has stopped"
    default = "The main process of this sandbox has ended. Look at its state and logs, or create a new sandbox."


class SandboxUnavailable(GatewayError):
    """Raised when the sandbox was replaced or taken off the gateway while the request was on its way."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "GATEWAY::SANDBOX_UNAVAILABLE"
    title = "Sandbox is not available"
    default = "This sandbox cannot be reached at the moment. Try again in a moment."
    retryable = True
    wait = 1
    refresh = 5


# The way to the sandbox's port.


class PortNotListening(GatewayError):
    """Raised when nothing accepts connections on the port within the connect budget."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "GATEWAY::PORT_NOT_LISTENING"
    title = "Nothing is listening on this port"
    default = "The sandbox runs, and nothing listens on this port. Start the program, on 0.0.0.0 rather than 127.0.0.1."
    retryable = True
    refresh = 3


class ConnectFailed(GatewayError):
    """Raised when the sandbox cannot be reached at all, for a reason other than a closed port."""

    status = HTTPStatus.BAD_GATEWAY
    code = "BACKEND_CONNECTION_FAILED"
    title = "Sandbox cannot be reached"
    default = "The gateway cannot connect to this sandbox. Check its state; if it runs, tell the operator."
    retryable = True
    refresh = 5
    log_level = logging.INFO


class UpstreamInvalid(GatewayError):
    """Raised when what the sandbox answers is not one unambiguous HTTP/1.1 response."""

    status = HTTPStatus.BAD_GATEWAY
    code = "GATEWAY::INVALID_RESPONSE"
    title = "The sandbox sent an invalid answer"
    default = "The program in the sandbox sent no valid HTTP response. Check that the port speaks HTTP/1.1 without TLS."
    log_level = logging.INFO

    def __init__(self, message: str | None = None, *, seen: bytes = b"") -> None:
        super().__init__(message)
        self.seen = seen
        """How the bytes begin that are no HTTP at all: for the operator's log, never for an answer."""

    @classmethod
    def no_http(cls, seen: bytes) -> UpstreamInvalid:
        """For bytes that do not begin as a response does."""
        return cls(
            "The program in the sandbox answered with bytes that are not HTTP. Check that the port speaks HTTP/1.1 "
            "without TLS, and that the program accepts this request; the server's log shows how they begin.",
            seen=seen[:_SHOWN_BYTES],
        )


class UpstreamClosed(GatewayError):
    """Raised when the sandbox closes the connection before it has answered."""

    status = HTTPStatus.BAD_GATEWAY
    code = "BACKEND_RESPONSE_FAILED"
    title = "The sandbox did not answer"
    default = "The program in the sandbox closed the connection without an answer. Look at its logs, then try again."
    retryable = True
    refresh = 5
    log_level = logging.INFO


class UpstreamTimeout(GatewayError):
    """Raised when the sandbox has accepted the request and says nothing for longer than the limit."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "BACKEND_TIMEOUT"
    title = "The sandbox takes too long"
    default = "The program in the sandbox did not answer in time. Try again, or look at its logs."
    retryable = True
    log_level = logging.INFO


# The gateway itself.


class TooManyConnections(GatewayError):
    """Raised when the gateway has as many client connections as it takes."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "GATEWAY::TOO_MANY_CONNECTIONS"
    title = "Too many connections"
    default = "The gateway has no room for another connection. Try again in a moment."
    retryable = True
    wait = 1
    refresh = 5
    closes = True
    log_level = logging.INFO


class TooManyFromClient(GatewayError):
    """Raised when one client address has as many connections as it may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "GATEWAY::TOO_MANY_CLIENT_CONNECTIONS"
    title = "Too many connections"
    default = "Too many connections are open from your address. Close some, or use them for more than one request."
    retryable = True
    wait = 1
    refresh = 5
    closes = True


class TooManyHeads(GatewayError):
    """Raised when too many requests of one client address have begun and do not come to the end of their head."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "GATEWAY::TOO_MANY_CLIENT_HEADS"
    title = "Too many unfinished requests"
    default = "Too many requests from your address have begun and are not complete. Send each head in one go."
    retryable = True
    wait = 1
    refresh = 5
    closes = True


class ClientRateLimited(GatewayError):
    """Raised when requests of one client address come faster than the gateway takes them."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "GATEWAY::CLIENT_RATE_LIMITED"
    title = "Too many requests"
    default = "Requests from your address come faster than this gateway takes them. Slow down, then try again."
    retryable = True
    wait = 1
    refresh = 5


class SandboxBusy(GatewayError):
    """Raised when as many requests and tunnels are open on one sandbox as it may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "GATEWAY::TOO_MANY_REQUESTS"
    title = "The sandbox is busy"
    default = "Too many requests are open on this sandbox. Let some finish, then try again."
    retryable = True
    wait = 1
    refresh = 5


class RateLimited(GatewayError):
    """Raised when requests to a sandbox come faster than its owner allows."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "GATEWAY::RATE_LIMITED"
    title = "Too many requests"
    default = "Requests to this sandbox come faster than its owner allows. Slow down, then try again."
    retryable = True
    wait = 1
    refresh = 5


class PortNotAllowed(GatewayError):
    """Raised when the owner of a sandbox allows other ports only."""

    status = HTTPStatus.FORBIDDEN
    code = "GATEWAY::PORT_NOT_ALLOWED"
    title = "Port not allowed"
    default = "The owner of this sandbox does not allow this port. Use another one, or ask for it to be allowed."


class MethodNotAllowed(GatewayError):
    """Raised when the owner of a sandbox allows other methods only."""

    status = HTTPStatus.FORBIDDEN
    code = "GATEWAY::METHOD_NOT_ALLOWED"
    title = "Method not allowed"
    default = "The owner of this sandbox does not allow this method. Use another one, or ask for it to be allowed."


class PathNotAllowed(GatewayError):
    """Raised when the owner of a sandbox allows other paths only."""

    status = HTTPStatus.FORBIDDEN
    code = "GATEWAY::PATH_NOT_ALLOWED"
    title = "Path not allowed"
    default = "The owner of this sandbox does not allow this path. Use another one, or ask for it to be allowed."


class StreamTooLong(GatewayError):
    """Raised when a request has lasted as long as the sandbox's owner lets it and nothing was answered."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "GATEWAY::STREAM_TOO_LONG"
    title = "This took too long"
    default = "The owner of this sandbox limits how long one request may take. Ask for less at a time."


class Draining(GatewayError):
    """Raised when a request arrives while the gateway shuts down."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "GATEWAY::SHUTTING_DOWN"
    title = "The gateway is restarting"
    default = "The gateway is shutting down. Connect again in a moment."
    retryable = True
    wait = 1
    refresh = 3
    closes = True


def every_error() -> Iterator[type[GatewayError]]:
    """All failures, for the answer table and the documentation."""
    pending = [GatewayError]
    while pending:
        kind = pending.pop(0)
        yield kind
        pending[:0] = kind.__subclasses__()
