#!/bin/sh
# Product: Python package uvloop 0.23.0, beside asyncio of CPython 3.11.
# Behaviour: from one socket that always has data, uvloop delivers up to 32 reads of 256 000 bytes, 8 MB, before any
#   other callback of the loop runs. asyncio delivers one read of 256 KiB.
# Output seen: asyncio: 1 read, 262144 bytes in one turn. uvloop: 32 reads, 8192000 bytes in one turn.
# Guess before: one read of a socket in each turn, on both loops; uvloop is the same thing, faster.
# Why it matters: a proxy on uvloop that forwards a fast download makes its other clients wait for 32 rounds of its own
#   code. Fairness measured on asyncio says nothing about it; pausing the transport inside data_received is what helps.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 120 "$dir/venv/bin/pip" install --quiet uvloop==0.23.0
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, collections, socket, sys, threading, uvloop

BYTES = 100_000_000


async def largest_turn():
    """Reads and bytes of the turn of the loop in which a busy socket delivered most."""
    receiver, sender = socket.socketpair()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 26)
    receiver.setblocking(False)
    turn, reads, size, done = 0, collections.Counter(), collections.Counter(), threading.Event()

    class Receiver(asyncio.Protocol):
        def data_received(self, data):
            reads[turn] += 1
            size[turn] += len(data)

        def connection_lost(self, error):
            done.set()

    await asyncio.get_running_loop().create_connection(Receiver, sock=receiver)

    def send():
        sender.sendall(bytes(BYTES))
        sender.close()

    threading.Thread(target=send, daemon=True).start()
    while not done.is_set():
        turn += 1
        await asyncio.sleep(0)
    return max(reads.values()), max(size.values())


seen = {"asyncio": asyncio.run(largest_turn()), "uvloop": uvloop.run(largest_turn())}
for loop, (reads, size) in seen.items():
    print(f"{loop}: {reads} read(s), {size} bytes in one turn")
# How many of the 32 are used depends on how fast the sender is; more than one is the finding.
if seen["asyncio"][0] != 1 or not 1 < seen["uvloop"][0] <= 32:
    sys.exit("the behaviour has changed")
END
