#!/bin/sh
# Product: asyncio of CPython 3.11 and the Python package uvloop 0.23.0.
# Behaviour: a client ends its sending direction, the server keeps the connection to answer (eof_received returns True),
#   then the client resets the connection. Neither loop tells: after the end they no longer poll the socket. The reset
#   shows only when something is written.
# Output seen: on both: eof; a second after the reset: nothing; after a write: lost BrokenPipeError.
# Guess before: connection_lost(ConnectionResetError) as soon as the reset arrives.
# Why it matters: behind a half-closed client a gateway goes on waiting for the sandbox's answer, and the sandbox working on
#   it, though nobody is there; a limit of time or a probe of its own is all that ends it.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 120 "$dir/venv/bin/pip" install --quiet uvloop==0.23.0
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, socket, struct, sys, uvloop


async def callbacks():
    calls, made, ended, lost = [], asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            made.set()

        def eof_received(self):
            calls.append("eof")
            ended.set()
            return True

        def connection_lost(self, error):
            calls.append(f"lost {type(error).__name__}")
            lost.set()

    protocol = Server()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    await made.wait()
    client.shutdown(socket.SHUT_WR)
    await ended.wait()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # with a linger of zero: a reset
    await asyncio.wait([asyncio.ensure_future(lost.wait())], timeout=1)
    if not lost.is_set():
        calls.append("nothing")
    protocol.transport.write(b"answer")
    await asyncio.wait_for(lost.wait(), 10)
    server.close()
    return calls


seen = {"asyncio": asyncio.run(callbacks()), "uvloop": uvloop.run(callbacks())}
for loop, calls in seen.items():
    print(f"{loop}: {', '.join(calls)}")
if any(calls != ["eof", "nothing", "lost BrokenPipeError"] for calls in seen.values()):
    sys.exit("the behaviour has changed")
END
