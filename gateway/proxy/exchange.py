"""One request and its response: who may write when, what is retried, how each failure shows.

    state      event                                   next
    IDLE       request for a known route, pool hit     WAITING
               request for a known route, no hit       DIALING   (request body is held back)
               request for an unknown id               RESOLVING (likewise)
    RESOLVING  route found                             DIALING or WAITING
    DIALING    connected                               WAITING
    WAITING    interim answer                          WAITING
               a forwarder found nobody listening      DIALING, within the connect budget
               final answer's head                     ANSWERING
               101                                     IDLE (the connection has become a tunnel)
               connection lost, may be repeated        DIALING
    ANSWERING  answer complete                         IDLE
               connection lost                         IDLE, the client is cut: truncation must show
    any        failure before the answer's head        IDLE, with an answer of our own
    any        client gone, route revoked              IDLE

An exchange object belongs to a client connection and is used again for each of its requests.

A request is repeated when its method is idempotent and it has no body (RFC 9110 §9.2.2), in two cases. A reused
connection died before a byte of the answer: once. Or a new one to a forwarder (dial.py) did, soon, which is how a
closed port looks there: within the connect budget, and then as a closed port. Where it may not be repeated it is
told 502, since the same silence may be a program that took it. The type of the failure decides, never its text.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Coroutine
from math import frexp
from typing import TYPE_CHECKING, Any, Final

from gateway.access import cors
from gateway.access.quotas import Quota
from gateway.deadlines import NEVER
from gateway.errors import (
    BodyTooLarge,
    ConnectFailed,
    GatewayError,
    PortNotListening,
    UpstreamClosed,
    UpstreamInvalid,
    UpstreamTimeout,
)
from gateway.http import framing
from gateway.http.error_responses import redirect
from gateway.http.fields import filter_trailers
from gateway.http.request_head import RequestHead
from gateway.http.response_head import ResponseHead, build_response
from gateway.metrics import ABORTED
from gateway.proxy import downstream_head
from gateway.proxy.admission import Admission, Allowed, Redirect, Wait
from gateway.proxy.client import Client
from gateway.proxy.resolve import for_removal
from gateway.proxy.state import ServerState
from gateway.proxy.tunnel import Tunnel
from gateway.proxy.upstream_head import Outgoing
from gateway.table import Removal, SandboxRoute
from gateway.upstream.dial import EARLY_SECONDS, Patience
from gateway.upstream.pool import Pool

if TYPE_CHECKING:
    from gateway.upstream.connection import UpstreamConnection

JOINED_BYTES = 8192
"""Up to here copying a body behind its head is cheaper than a second buffer for the kernel."""
HELD_BYTES = 65536
"""How much of a request body is taken in before there is a connection to send it on."""

_CLOSED_OR_SILENT: Final = (
    "Either nothing listens on this port of the sandbox, or the program there closed the connection without an answer. "
    "Check that it runs, then try again."
)


log = logging.getLogger(__name__)


class State(enum.Enum):
    """Where an exchange is; see the table at the top."""

    IDLE = enum.auto()
    RESOLVING = enum.auto()
    DIALING = enum.auto()
    WAITING = enum.auto()
    ANSWERING = enum.auto()


_IDLE, _RESOLVING, _DIALING, _WAITING, _ANSWERING = State
# Names of the module: a member of an enum costs a descriptor call at each look.


class Exchange:
    """One request and its response at a time, on one client connection."""

    __slots__ = (
        "_admission",
        "_chunked",
        "_client",
        "_endless",
        "_head",
        "_held",
        "_held_size",
        "_irregular",
        "_keep",
        "_outgoing",
        "_patience",
        "_pending",
        "_plane",
        "_pool",
        "_quota",
        "_repeated",
        "_request",
        "_route",
        "_sent_again",
        "_started",
        "_status",
        "_task",
        "_trailers",
        "_upstream",
        "bytes_in",
        "bytes_out",
        "moved",
        "request_sent",
        "state",
        "write",
    )

    write: Callable[[bytes], None]
    """To the client: the transport's own method, bound once per connection."""

    def __init__(self, plane: ServerState, client: Client) -> None:
        # process
        self._plane = plane
        # connection
        self._client = client
        self._admission = Admission(plane, client)
        self._outgoing = Outgoing(plane, client)
        # request
        self._request: RequestHead | None = None
        self._route: SandboxRoute | None = None
        self._upstream: UpstreamConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._head = b""
        self._held: list[bytes] = []
        self._held_size = 0
        self._pending = b""
        """Head and first bytes of the answer, for the moment it takes to see whether they are all of it."""
        self._pool: Pool | None = None
        self._trailers = b""
        self._irregular = False
        """Whether this exchange has set something that most do not, and that has to be forgotten after it."""
        self._chunked = False
        self._endless = False
        self._keep = True
        self._repeated = False
        self._patience: Patience | None = None
        """Set once the port has turned out to be closed behind its forwarder."""
        self._sent_again = 0.0
        self._quota: Quota | None = None
        self._started = 0.0
        self._status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.moved = 0.0
        """When a body byte last moved either way, by the coarse clock."""
        self.request_sent = False
        self.state = _IDLE

    # The request, from the client.

    def begin(self, request: RequestHead, body: bytes, complete: bool) -> None:
        """Takes a request with what has come of its body. Raises GatewayError when it may not go anywhere."""
        plane = self._plane
        self._request = request
        self._started = self.moved = plane.clock()
        self.bytes_in = len(body)
        self.request_sent = complete
        self._outgoing.id_count = 0
        self._enter(request, body)

    def _enter(self, request: RequestHead, body: bytes) -> None:
        """Goes on with a request that may enter, now or once the manager has done something about its sandbox."""
        plane, admitted = self._plane, self._admission
        try:
            route = admitted.admit(request)
        except Wait as wait:
            self.state = _RESOLVING
            self._hold(body)
            self._task = plane.spawn(self._enter_later(wait.work))
            return
        address = admitted.address
        if address is None:
            pool = route.pools[0]
            self._head = self._outgoing.to_application(request, admitted.scheme)
        else:
            if route.quota is not None:
                self._meter(route.quota)
            route.requests += 1
            if not request.skips_renewal:
                route.last_active = plane.deadlines.now
            try:
                pool = route.pools[address.port]
            except KeyError:
                pool = plane.pool(route, address.port)
            self._head = self._outgoing.to_sandbox(request, address, pool, admitted.keep_prefix)
        self._route = route
        route.live.add(self)
        self._pool = pool
        upstream = pool.take(request.replayable)
        if upstream is not None:
            plane.counters.pool_hits += 1
            self._send(upstream, request, body)
        else:
            self.state = _DIALING
            self._hold(body)
            self._task = plane.spawn(self._dial(pool))

    async def _enter_later(self, work: Coroutine[Any, Any, object]) -> None:
        """Asks again from the start when the work is done: what was true of the sandbox before may have changed."""
        try:
            await work
            self._task = None
            if self._request is not None:
                self._enter(self._request, b"")
        except GatewayError as error:
            self._task = None
            self.fail(error)
        except Redirect as redirect:
            self._task = None
            self.divert(redirect)
        except Exception:
            self._task = None
            self.fail(GatewayError())
            raise

    def _meter(self, quota: Quota) -> None:
        """Counts what moves from now on, as the sandbox's owner has limited it."""
        now = self._plane.clock()
        self._irregular = True
        self._quota = quota
        if self.bytes_in:
            self._client.valve.pause_for(quota.spend(self.bytes_in, now))
        if quota.rules.stream_seconds:
            self._client.end_by(now + quota.rules.stream_seconds)

    async def _dial(self, pool: Pool) -> None:
        try:
            upstream = await pool.connect(pool)
        except GatewayError as error:
            self._task = None
            self.fail(error)
            return
        except Exception:
            self._task = None
            self.fail(ConnectFailed())
            raise
        self._task = None
        request = self._request
        if self.state is _DIALING and request is not None:
            if upstream.transport.is_closing():
                self._lost_unused(pool)
            else:
                self._send(upstream, request, b"")
        else:
            upstream.home.give(upstream)

    def _send(self, upstream: UpstreamConnection, request: RequestHead, body: bytes) -> None:
        self.state = _WAITING
        self._upstream = upstream
        data = self._head
        if request.length:
            data = self._with_body(request, data, body)
        upstream.send(self, data, request.is_head)

    def _with_body(self, request: RequestHead, data: bytes, body: bytes) -> bytes:
        if self._held:
            body = b"".join((*self._held, body))
            self._held.clear()
            self._held_size = 0
        chunked = request.length == framing.CHUNKED
        if body:
            data += framing.chunk(body) if chunked else body
        if chunked and self.request_sent:
            data += framing.last_chunk(self._trailers)
        self._client.release_body()
        return data

    def _framed(self, body: bytes) -> bytes:
        request = self._request
        return framing.chunk(body) if request is not None and request.length == framing.CHUNKED else body

    def _hold(self, body: bytes) -> None:
        self._irregular = True
        if body:
            self._held.append(body)
            self._held_size += len(body)
        if self._held_size >= HELD_BYTES or not self.request_sent:
            self._client.hold_body()

    def send_body(self, data: bytes) -> None:
        """More of the request body, decoded from its transfer coding."""
        self.bytes_in += len(data)
        self.moved = self._plane.deadlines.now
        if self.bytes_in > self._most_body_bytes():
            self.fail(BodyTooLarge())
            return
        if self._quota is not None:
            self._client.valve.pause_for(self._quota.spend(len(data), self._plane.clock()))
        upstream = self._upstream
        if upstream is None:
            if self.state is not _IDLE:
                self._hold(data)
            return
        upstream.write(self._framed(data))

    def _most_body_bytes(self) -> float:
        if self._admission.address is None:
            return NEVER
        ours = self._plane.limits.max_body_bytes or NEVER
        owners = 0 if self._quota is None else self._quota.rules.body_bytes
        return min(ours, owners or NEVER)

    def end_body(self, trailers: bytes) -> None:
        """The request body is complete."""
        self.request_sent = True
        self.moved = self._plane.deadlines.now
        if self._request is not None and self._request.length == framing.CHUNKED:
            self._irregular = True
            self._trailers = filter_trailers(trailers)
            if self._upstream is not None:
                self._upstream.write(framing.last_chunk(self._trailers))

    # The response, from the sandbox (upstream.Sink).

    def on_interim(self, response: ResponseHead) -> None:
        """100, 102 and 103 go to clients that know them."""
        if self._request is not None and self._request.minor == 1:
            self.write(self._to_client(response, b""))

    def on_head(self, response: ResponseHead, body: bytes) -> None:
        """The final answer begins: head and first body bytes leave in one write."""
        request = self._request
        if request is None:
            return
        plane = self._plane
        self._status = response.status
        keep = request.keep_alive and self.request_sent and not plane.draining
        added = b""
        if response.length < 0:
            if request.minor == 1:
                self._irregular = self._chunked = True
                added = b"Transfer-Encoding: chunked\r\n"
            else:
                self._irregular = self._endless = True
                keep = False
        self._keep = keep
        if not keep:
            added += b"Connection: close\r\n"
        elif request.minor == 0:
            added += b"Connection: keep-alive\r\n"
        admitted, route = self._admission, self._route
        if route is not None and not (
            admitted.changes_answers or route.amends_answers or admitted.keys or response.origin_wide
        ):
            head = build_response(response, added)
        else:
            head = self._amended(request, response, added)
        self.state = _ANSWERING  # not earlier: of a head that cannot be written the client hears in an answer of ours
        if body:
            self.bytes_out = size = len(body)
            if self._quota is not None and self._upstream is not None:
                self._upstream.valve.pause_for(self._quota.spend(size, self._plane.clock()))
            if self._chunked:
                body = framing.chunk(body)
            if size > JOINED_BYTES:
                self.write(head)
                head = body
            else:
                head += body
        self._pending = head

    def _amended(self, request: RequestHead, response: ResponseHead, added: bytes) -> bytes:
        """The head of a final answer of which more may have to be changed than its framing."""
        plane, admitted, route = self._plane, self._admission, self._route
        address = admitted.address
        if address is None or route is None:
            return build_response(response, added)
        if admitted.keys:
            added += admitted.guard(address, response)
        host = b""
        if plane.amends_answers or route.amends_answers:
            listed = plane.options.cors_origins
            if listed or route.cors is not None:
                added += cors.sandbox_answer(listed, route.cors, address.port, request.origin, response)
            host = self._sent_host()
        if address.prefix:
            return downstream_head.final_head(plane, admitted, address, request, response, added, host)
        return downstream_head.answer_head(plane, admitted, request, response, added, host)

    def _to_client(self, response: ResponseHead, added: bytes) -> bytes:
        host = self._sent_host()
        return downstream_head.answer_head(self._plane, self._admission, self._request, response, added, host)

    def _sent_host(self) -> bytes:
        """The Host that was sent in place of the client's, or empty."""
        return b"" if self._pool is None else self._pool.host

    def flush(self) -> None:
        """The answer is not complete yet: what there is of it goes out."""
        pending, self._pending = self._pending, b""
        if pending:
            self.write(pending)

    def on_data(self, data: bytes) -> None:
        """More body bytes, on their way as they come."""
        self.bytes_out += len(data)
        route, request = self._route, self._request
        self.moved = now = self._plane.deadlines.now
        if route is not None and request is not None and not request.skips_renewal:
            route.last_active = now
        self.write(framing.chunk(data) if self._chunked else data)
        if self._quota is not None and self._upstream is not None:
            self._upstream.valve.pause_for(self._quota.spend(len(data), self._plane.clock()))

    def on_end(self, trailers: bytes) -> None:
        """The answer is complete."""
        last = self._pending
        if self._chunked:
            last += framing.last_chunk(filter_trailers(trailers))
        if last:
            self.write(last)
        self._upstream = None
        keep = self._keep
        self._close_book(self._status // 100 - 1)
        self._client.exchange_done(keep)

    def on_switch(self, response: ResponseHead, data: bytes) -> None:
        """101: the two connections become a tunnel."""
        request, upstream, route = self._request, self._upstream, self._route
        if request is None or upstream is None or route is None:
            return
        offered = [offer.strip(b" \t") for offer in request.upgrade.lower().split(b",")]
        if not request.upgrade or response.upgrade.lower() not in offered:
            raise UpstreamInvalid("The program in the sandbox switched to a protocol that nobody asked for.")
        head = self._to_client(response, b"Connection: Upgrade\r\nUpgrade: %b\r\n" % response.upgrade)
        websocket = response.upgrade.lower() == b"websocket"
        tunnel = Tunnel(
            self._plane,
            self._client,
            upstream,
            route,
            websocket=websocket,
            renews=not request.skips_renewal,
            quota=self._quota,
            keys=self._admission.keys,
            since=self._started,
        )
        upstream.sink = tunnel
        self._status = 101
        self._upstream = None
        self._close_book(0)
        route.live.add(tunnel)
        self.write(head)
        early = self._client.became_tunnel(tunnel)
        if data:
            tunnel.on_data(data)
        if early:
            tunnel.from_client(early)

    def on_lost(self, error: GatewayError | None) -> None:
        """The sandbox's side ended too early."""
        upstream, self._upstream = self._upstream, None
        request = self._request
        if (
            error is None
            and upstream is not None
            and request is not None
            and self.state is _WAITING
            and upstream.used > 1
            and upstream.silent
            and self._pool is not None
            and not self._repeated
            and request.replayable
        ):
            self._irregular = self._repeated = True
            self._plane.counters.retries += 1
            self.state = _DIALING
            self._task = self._plane.spawn(self._dial(self._pool))
            return
        if (
            error is None
            and upstream is not None
            and request is not None
            and self._pool is not None
            and self._is_refusal(self._pool, upstream)
        ):
            if request.replayable:
                self._try_again(self._pool)
            else:
                self.fail(UpstreamClosed(_CLOSED_OR_SILENT))
            return
        if isinstance(error, UpstreamInvalid) and error.seen:
            self._report(error)
        self.fail(error or UpstreamClosed())

    def _report(self, error: UpstreamInvalid) -> None:
        """Says in the log, once for each pool, what a port answers that is no HTTP."""
        pool, route, address = self._pool, self._route, self._admission.address
        if pool is None or route is None or address is None or pool.reported:
            return
        pool.reported = True
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in error.seen)
        log.log(error.log_level, "port %d of sandbox %s answers no HTTP: %r", address.port, route.id.decode(), shown)

    def _is_refusal(self, pool: Pool, upstream: UpstreamConnection) -> bool:
        """Whether this is how a forwarder says that nobody listens."""
        if not pool.forwarded or self.state is not _WAITING or upstream.used > 1 or not upstream.silent:
            return False
        return self._plane.clock() - (self._sent_again or self._started) < EARLY_SECONDS

    def _lost_unused(self, pool: Pool) -> None:
        """The connection ended before a byte of the request was sent, so that any request may be sent again."""
        if pool.forwarded:
            self._try_again(pool)
        else:
            self.fail(UpstreamClosed())

    def _try_again(self, pool: Pool) -> None:
        plane = self._plane
        plane.counters.dial_failures += 1
        now = plane.clock()
        self._irregular = True
        if self._patience is None:
            self._patience = Patience(plane.limits.connect_budget, now)
        pause = self._patience.pause(now)
        if pause is None:
            self.fail(PortNotListening())
            return
        self.state = _DIALING
        self._task = plane.spawn(self._dial_later(pool, pause))

    async def _dial_later(self, pool: Pool, pause: float) -> None:
        await asyncio.sleep(pause)
        self._sent_again = self._plane.clock()
        await self._dial(pool)

    def on_eof(self) -> bool:
        """A sandbox that finishes sending has finished its answer; its connection closes."""
        return False

    def pause_upload(self) -> None:
        """The sandbox is slow."""
        self._client.hold_body()

    def resume_upload(self) -> None:
        """The sandbox takes bytes again."""
        self._client.release_body()

    # Ends other than the answer's.

    def client_slow(self) -> None:
        """The client is slow: stop reading from the sandbox."""
        if self._upstream is not None:
            self._upstream.hold()

    def client_ready(self) -> None:
        """The client takes bytes again."""
        if self._upstream is not None:
            self._upstream.release()

    def fail(self, error: GatewayError) -> None:
        """Answers with the error, or cuts the client where an answer has begun."""
        if self.state is _ANSWERING:
            self.flush()
            self._client.cut(reset=self._endless)
            self.abandon()
            return
        self._drop_upstream()
        request = self._request
        keep = request is not None and request.keep_alive and self.request_sent and not self._plane.draining
        self._plane.counters.refused(error.code)
        self._status = status = int(error.status)
        request_id = self._outgoing.request_id(request)
        lines = b"" if request is None or request.origin is None else self._admission.cors_lines(request.origin)
        self._close_book(status // 100 - 1)
        self._client.refuse(error, request, request_id, keep=keep and not error.closes, added=lines)

    def divert(self, detour: Redirect) -> None:
        """Answers with a 307 redirect."""
        request = self._request
        keep = request is not None and request.keep_alive and self.request_sent and not self._plane.draining
        request_id = self._outgoing.request_id(request)
        if isinstance(detour, Allowed) and request is not None:
            self._status, answer = 204, cors.preflight_answer(request, detour.lines, request_id, close=not keep)
        else:
            location, cookies = detour.location, detour.cookies
            self._status, answer = 307, redirect(location, request_id=request_id, close=not keep, cookies=cookies)
        self._close_book(self._status // 100 - 1)
        self.write(answer)
        self._client.exchange_done(keep)

    def abandon(self) -> None:
        """The client is gone, or must be: nothing more is sent to either side."""
        if self._request is None:
            return
        self._drop_upstream()
        self._close_book(ABORTED)

    def revoke(self, reason: Removal) -> None:
        """The sandbox is gone."""
        if self.state is not _IDLE:
            self.fail(for_removal(reason))

    def timed_out(self) -> None:
        """No byte has moved for too long."""
        self.fail(UpstreamTimeout())

    def tunnel_ended(self, tunnel: Tunnel) -> None:
        """The tunnel that the exchange has become is over."""

    def forget(self) -> None:
        """Between two requests: lets go of what is kept in case the next is like the last."""
        if self._request is None:
            self._admission.forget()
        self._outgoing.forget()
        self._pool = None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What let the request in and may be taken back."""
        return self._admission.keys

    @property
    def since(self) -> float:
        """When the request came."""
        return self._started

    @property
    def request(self) -> RequestHead | None:
        """The request being served."""
        return self._request

    def _drop_upstream(self) -> None:
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _close_book(self, outcome: int) -> None:
        """Counts the exchange (`outcome` is an index of metrics.CLASSES) and forgets the request."""
        plane = self._plane
        counters = plane.counters
        route = self._route
        counters.responses[self._admission.form][outcome] += 1
        seconds = plane.clock() - self._started
        counters.duration_seconds += seconds
        counters.durations[frexp(seconds * 1e6 + 0.5)[1]] += 1
        if route is not None:
            if self.bytes_in:
                route.bytes_in += self.bytes_in
            route.bytes_out += self.bytes_out
            route.live.discard(self)
        self._request = self._route = None
        self.bytes_out = 0
        self._head = self._pending = b""
        if self._irregular:
            self._irregular = self._chunked = self._endless = self._repeated = False
            self._trailers = b""
            self._held.clear()
            self._held_size = 0
            self._pool = None
            self._quota = None
            self._patience = None
            self._sent_again = 0.0
        self.state = _IDLE
