"""Tunnels: bytes as they come, half-close, frame boundaries, and how a tunnel ends when the sandbox does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Limits
from gateway.proxy.tunnel import GOING_AWAY, FrameCounter, close_frame
from gateway.table import Removal
from tests.gateway.harness import ADDRESS, Wire, World

ASK = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n" + ADDRESS + b"\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
FRAME = b"\x82\x05hello"
MASKED = b"\x82\x85\x01\x02\x03\x04xxxxx"
MASKED_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"

LONGEST = 2**16 + 3


def frame(size: int, *, masked: bool = False) -> bytes:
    """One frame with a payload of this size, with the length written in the shortest way."""
    if size < 126:
        head = bytes([0x82, size])
    elif size < 65536:
        head = b"\x82\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x82\x7f" + size.to_bytes(8, "big")
    if masked:
        head = head[:1] + bytes([head[1] | 0x80]) + head[2:] + b"mask"
    return head + b"\x88" * size


def opened(protocol: bytes = b"websocket", limits: Limits | None = None) -> tuple[World, Wire, Wire]:
    """A tunnel, with the wires of the client and of the sandbox."""
    world = World(limits)
    sandbox, client = world.stock(), world.connect()
    client.arrive(ASK % protocol)
    sandbox.arrive(SWITCH % protocol)
    client.take()
    sandbox.take()
    return world, client, sandbox


sizes = st.one_of(st.integers(0, 130), st.sampled_from([125, 126, 127, 65535, 65536, LONGEST]))
frames = st.lists(st.builds(frame, sizes, masked=st.booleans()), min_size=1, max_size=6)


@given(frames, st.data())
def test_boundary_exactly_at_frame_ends(parts: list[bytes], data: st.DataObject) -> None:
    """However a sequence of frames is cut into pieces, the counter says `boundary` where one ends and nowhere else."""
    stream = b"".join(parts)
    ends = {sum(map(len, parts[:count])) for count in range(len(parts) + 1)}
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)) | st.sampled_from(sorted(ends)), max_size=12)))
    counter, at = FrameCounter(), 0
    assert counter.at_boundary
    for cut in (*cuts, len(stream)):
        counter.feed(stream[at:cut])
        at = cut
        assert counter.at_boundary is (at in ends)


def test_byte_by_byte() -> None:
    """Every kind of head, a byte at a time."""
    for size in (0, 1, 125, 126, 65536):
        for masked in (False, True):
            counter, stream = FrameCounter(), frame(size, masked=masked)
            for at in range(len(stream) - 1):
                counter.feed(stream[at : at + 1])
                assert not counter.at_boundary
            counter.feed(stream[-1:])
            assert counter.at_boundary


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65536])
def test_whole_frames(size: int, masked: bool) -> None:
    """A frame that comes alone is counted whole, one byte less is not, and a close frame is noticed."""
    counter, data = FrameCounter(), frame(size, masked=masked)
    for stream, closing in ((data, False), (b"\x88" + data[1:], True)):
        assert counter.feed(stream) == len(stream)
        assert counter.at_boundary
        assert counter.closing is closing
    counter.feed(data[:-1])
    assert not counter.at_boundary


def test_huge_frame_costs_no_memory() -> None:
    """A frame may announce 2⁶³ bytes; only a number is kept."""
    counter = FrameCounter()
    counter.feed(b"\x82\x7f" + (2**63 - 1).to_bytes(8, "big") + b"x" * 1000)
    assert (counter.at_boundary, counter._head, counter._left) == (False, b"", 2**63 - 1001)


@pytest.mark.parametrize(("code", "reason"), [GOING_AWAY, (1012, b""), (1001, b"x" * 123)])
def test_close_frame(code: int, reason: bytes) -> None:
    """A close frame is one unmasked, final frame with code and reason, and at most 125 bytes of payload."""
    data = close_frame(code, reason)
    assert data[0] == 0x88
    assert data[1] == len(data) - 2 <= 125
    assert (int.from_bytes(data[2:4], "big"), data[4:]) == (code, reason)


def test_bytes_go_through() -> None:
    """What one side sends is what the other gets."""
    _, client, sandbox = opened()
    client.arrive(MASKED, b"anything")
    sandbox.arrive(FRAME, b"at all")
    assert (sandbox.take(), client.take()) == (MASKED + b"anything", FRAME + b"at all")


def test_bytes_beside_the_handshake() -> None:
    """Bytes that come with the 101, and those of a client that does not wait for it, are not lost."""
    world = World()
    sandbox, client = world.stock(), world.connect()
    client.arrive(ASK % b"websocket" + MASKED)
    sandbox.take()
    sandbox.arrive(SWITCH % b"websocket" + FRAME)
    assert client.take().partition(b"\r\n\r\n")[2] == FRAME
    assert sandbox.take() == MASKED


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Removal.DELETED, 1001),
        (Removal.EXPIRED, 1001),
        (Removal.STOPPED, 1001),
        (Removal.REVOKED, 1001),
        (Removal.PAUSED, 1012),
        (Removal.REPLACED, 1012),
    ],
)
def test_revoked_between_frames(reason: Removal, code: int) -> None:
    """Between two frames the client is told with a close frame, and then the stream ends in order."""
    world, client, sandbox = opened()
    sandbox.arrive(FRAME)
    client.take()
    world.table.remove("abc", reason)
    said = client.take()
    assert (said[0], int.from_bytes(said[2:4], "big"), len(said)) == (0x88, code, 2 + said[1])
    assert (client.ended, client.aborted, sandbox.aborted) == (True, False, True)


@pytest.mark.parametrize("cut", range(1, len(FRAME)))
def test_revoked_inside_a_frame(cut: int) -> None:
    """Inside a frame nothing of ours is put: it would be read as the frame's payload. The connection is cut."""
    world, client, sandbox = opened()
    sandbox.arrive(FRAME[:cut])
    world.table.remove("abc", Removal.DELETED)
    assert client.take() == FRAME[:cut]
    assert client.aborted


def test_other_protocols_get_no_close_frame() -> None:
    """A tunnel that is no WebSocket is cut: bytes of ours mean nothing there."""
    world, client, sandbox = opened(b"chat")
    sandbox.arrive(FRAME)
    client.take()
    world.table.remove("abc", Removal.DELETED)
    assert (client.take(), client.aborted) == (b"", True)


def test_half_close_of_the_client() -> None:
    """A client that has finished sending still gets what the sandbox sends."""
    _, client, sandbox = opened(b"chat")
    client.end()
    assert (sandbox.ended, client.closing) == (True, False)
    sandbox.arrive(b"late")
    assert client.take() == b"late"


def test_half_close_of_the_sandbox() -> None:
    """A sandbox that has finished sending still gets what the client sends; both ends over, both close."""
    _, client, sandbox = opened(b"chat")
    sandbox.end()
    assert (client.ended, sandbox.closing) == (True, False)
    client.arrive(b"late")
    assert sandbox.take() == b"late"
    client.end()
    client.settle()
    assert sandbox.closing


def test_sandbox_gone() -> None:
    """What the sandbox sent last still goes out before the client's stream ends."""
    world, client, sandbox = opened()
    sandbox.arrive(FRAME + close_frame(1000, b"bye"))
    sandbox.lose()
    assert (client.take(), client.ended, client.aborted) == (FRAME + close_frame(1000, b"bye"), True, False)
    assert not world.route.live


@pytest.mark.parametrize("end", ["lose", "end"])
async def test_sandbox_that_dies(end: str) -> None:
    """A WebSocket that ends without a close frame waits a moment, so that the client hears of a sandbox that died."""
    world, client, sandbox = opened()
    sandbox.arrive(FRAME)
    getattr(sandbox, end)()
    assert (client.take(), client.ended) == (FRAME, False)
    world.table.remove("abc", Removal.STOPPED)
    assert (client.take(), client.ended) == (close_frame(1001, b"sandbox stopped"), True)


def test_client_gone() -> None:
    """What the client sent last still goes out, and the route forgets the tunnel."""
    world, client, sandbox = opened()
    client.arrive(MASKED)
    client.lose()
    assert (sandbox.take(), sandbox.closing, sandbox.aborted) == (MASKED, True, False)
    assert not world.route.live
    assert world.plane.counters.tunnels == 0


def test_slow_client_stops_the_sandbox() -> None:
    """Backpressure from the client reaches the sandbox, and goes again."""
    _, client, sandbox = opened()
    client.protocol.pause_writing()
    assert not sandbox.reading
    client.protocol.resume_writing()
    assert sandbox.reading


def test_slow_sandbox_stops_the_client() -> None:
    """And the other way."""
    _, client, sandbox = opened()
    sandbox.protocol.pause_writing()
    assert not client.reading
    sandbox.protocol.resume_writing()
    assert client.reading


def test_idle_for_too_long() -> None:
    """A tunnel in which nothing moves ends; one byte either way starts the time anew."""
    world, client, _ = opened(limits=Limits(stream_idle_timeout=100))
    world.pass_time(80)
    client.arrive(MASKED)
    world.pass_time(80)
    assert not client.ended
    world.pass_time(101)
    assert client.ended


def test_bytes_are_counted() -> None:
    """What went through a tunnel is in the books of its route."""
    world, client, sandbox = opened()
    client.arrive(b"12345")
    sandbox.arrive(b"123")
    client.lose()
    assert (world.route.bytes_in, world.route.bytes_out) == (5, 3)


@pytest.mark.parametrize("asker", ["client", "sandbox"])
def test_a_close_frame_that_nobody_answers(asker: str) -> None:
    """Ten seconds of silence end it, not the idle limit; who is still sending may finish."""
    world, client, sandbox = opened(limits=Limits(stream_idle_timeout=100))
    one, other = (client, sandbox) if asker == "client" else (sandbox, client)
    one.arrive(MASKED_CLOSE if asker == "client" else close_frame(1000, b""))
    world.pass_time(9)
    other.arrive(FRAME if asker == "client" else MASKED)
    world.pass_time(9)
    early = client.ended
    world.pass_time(12)
    assert (early, client.ended) == (False, True)
    told = client.take()
    assert told == (FRAME + close_frame(1001, b"idle for too long") if asker == "client" else close_frame(1000, b""))
