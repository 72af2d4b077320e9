"""An exchange that writes an access log line when it ends; used where the access log is on.

A connection that becomes a tunnel is written down when the tunnel ends, with all that went through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.http.request_head import RequestHead
from gateway.metrics import ABORTED, FORMS
from gateway.proxy.access_log import AccessLog
from gateway.proxy.client import Client
from gateway.proxy.exchange import Exchange

if TYPE_CHECKING:
    from gateway.addressing.routing import Route
    from gateway.http.response_head import ResponseHead
    from gateway.proxy.state import ServerState
    from gateway.proxy.tunnel import Tunnel
    from gateway.upstream.connection import UpstreamConnection

_SWITCHED = 101


class LoggedExchange(Exchange):
    """One request and its response at a time, each with its line."""

    __slots__ = ("_access_log", "_answered", "_sent", "_switched")

    def __init__(self, plane: ServerState, client: Client, access_log: AccessLog) -> None:
        super().__init__(plane, client)
        self._access_log = access_log
        # request
        self._sent = 0.0
        self._answered: float | None = None
        self._switched: tuple[RequestHead, Route | None, int] | None = None

    def begin(self, request: RequestHead, body: bytes, complete: bool) -> None:
        """Takes a request. Raises GatewayError when it may not go anywhere."""
        self._status = 0
        self._answered = None
        super().begin(request, body, complete)

    def _send(self, upstream: UpstreamConnection, request: RequestHead, body: bytes) -> None:
        self._sent = self._plane.clock()
        super()._send(upstream, request, body)

    def on_head(self, response: ResponseHead, body: bytes) -> None:
        """The final answer begins."""
        self._answered = self._plane.clock()
        super().on_head(response, body)

    def on_switch(self, response: ResponseHead, data: bytes) -> None:
        """101: what has to be told of the request is told at the tunnel's end."""
        self._answered = self._plane.clock()
        if self._request is not None:
            self._switched = self._request, self._admission.address, self._admission.form
        super().on_switch(response, data)

    def tunnel_ended(self, tunnel: Tunnel) -> None:
        """The tunnel that the exchange has become is over."""
        if self._switched is not None:
            self._write(*self._switched, tunnel.bytes_in, tunnel.bytes_out, aborted=False)

    def _close_book(self, outcome: int) -> None:
        if self._request is not None and self._status != _SWITCHED:
            form = self._admission.form
            self._write(
                self._request, self._admission.address, form, self.bytes_in, self.bytes_out, aborted=outcome == ABORTED
            )
        super()._close_book(outcome)

    def _write(
        self, request: RequestHead, address: Route | None, form: int, bytes_in: int, bytes_out: int, *, aborted: bool
    ) -> None:
        self._access_log.write(
            request_id=self._outgoing.request_id(request),
            peer=self._client.peer.address,
            method=request.method,
            target=request.target if address is None else address.target,
            form=FORMS[form],
            sandbox=b"" if address is None else address.id,
            port=0 if address is None else address.port,
            status=self._status,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            seconds=self._plane.clock() - self._started,
            upstream_seconds=None if self._answered is None else self._answered - self._sent,
            aborted=aborted,
        )
