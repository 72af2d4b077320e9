"""What an exchange, and the tunnel it may become, ask of their client connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError
from gateway.flow import Valve
from gateway.http.forwarded import Peer
from gateway.http.request_head import RequestHead

if TYPE_CHECKING:
    from gateway.proxy.tunnel import Tunnel


class Client(Protocol):
    """The client connection, as its exchange sees it."""

    transport: asyncio.Transport
    valve: Valve
    deadline: float
    peer: Peer

    def end_by(self, when: float) -> None:
        """The exchange, or the tunnel it becomes, must not last longer."""

    def exchange_done(self, keep: bool) -> None:
        """The response is complete; `keep` says whether another request may follow."""

    def refuse(
        self, error: GatewayError, request: RequestHead | None, request_id: bytes, *, keep: bool, added: bytes = b""
    ) -> None:
        """Sends an answer of our own with the lines `added` in its head, then as `exchange_done`."""

    def hold_body(self) -> None:
        """There is nowhere to send the request body yet."""

    def release_body(self) -> None:
        """There is."""

    def became_tunnel(self, tunnel: Tunnel) -> bytes:
        """From now on raw bytes; returns those that came already."""

    def put_off(self, data: bytes) -> None:
        """Keeps bytes of a tunnel for the next turn of the loop, when they come as if they were read then."""

    def linger(self) -> None:
        """Finishes sending, then closes without losing what was sent."""

    def cut(self, *, reset: bool = False) -> None:
        """Drops the connection at once, so that what is missing shows; `reset` where an orderly end would not."""
