"""An exchange that counts against its client address's rate limit; used where there is one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway.errors import ClientRateLimited
from gateway.http.request_head import RequestHead
from gateway.proxy.exchange import Exchange
from gateway.proxy.logged_exchange import LoggedExchange

if TYPE_CHECKING:
    from gateway.proxy.client import Client
    from gateway.proxy.state import ServerState


class PacedExchange(Exchange):
    """One request and its response at a time, each counted for the client it comes from."""

    __slots__ = ()

    def begin(self, request: RequestHead, body: bytes, complete: bool) -> None:
        """Takes a request. Raises GatewayError when it may not go anywhere, or has come too soon."""
        plane = self._plane
        caller = plane.trusted.caller(self._client.peer, request.forwarded)
        if caller not in plane.trusted and (wait := plane.callers.ask(caller, plane.clock())):
            self._decline(request, body, complete)
            raise ClientRateLimited(retry_after=math.ceil(wait))
        super().begin(request, body, complete)

    def _decline(self, request: RequestHead, body: bytes, complete: bool) -> None:
        """Takes a request that is refused before anybody has looked where it goes."""
        self._request = request
        self._admission.decline(request)
        self._started = self.moved = self._plane.clock()
        self.bytes_in = len(body)
        self.request_sent = complete
        self._outgoing.id_count = 0


class PacedLoggedExchange(PacedExchange, LoggedExchange):
    """The same, each with its line in the log."""

    __slots__ = ()


def exchange_for(plane: ServerState, client: Client) -> Exchange:
    """One that does what is configured and pays for nothing else."""
    log, paced = plane.access_log, plane.callers.counts_requests
    if log is None:
        return PacedExchange(plane, client) if paced else Exchange(plane, client)
    return PacedLoggedExchange(plane, client, log) if paced else LoggedExchange(plane, client, log)
