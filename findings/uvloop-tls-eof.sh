#!/bin/sh
# Product: Python package uvloop 0.23.0, beside asyncio of CPython 3.11.
# Behaviour: a TLS client ends its TCP direction without the closing alert of TLS. asyncio calls eof_received and then
#   connection_lost(None). uvloop never calls eof_received: connection_lost(None) comes at once.
# Output seen: asyncio: data, eof, lost None. uvloop: data, lost None.
# Guess before: eof_received comes first on both loops, as it does without TLS.
# Why it matters: a server that tells a cut message from a complete one in eof_received (an answer without a length, an
#   upload's end) never gets there on uvloop, and connection_lost(None) reads like an orderly end. Decide in both.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 120 "$dir/venv/bin/pip" install --quiet uvloop==0.23.0 trustme==1.2.1
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, socket, ssl, sys, threading, trustme, uvloop

authority = trustme.CA()
server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(server_tls)
server_tls.num_tickets = 0
client_tls = ssl.create_default_context()
authority.configure_trust(client_tls)


def client(address, got_data):
    with socket.create_connection(address) as plain, client_tls.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.sendall(b"x")
        got_data.wait(5)
        with socket.socket(fileno=tls.detach()) as bare:
            bare.shutdown(socket.SHUT_WR)
            bare.settimeout(5)
            while bare.recv(4096):
                pass


async def callbacks():
    calls, lost, got_data = [], asyncio.Event(), threading.Event()

    class Server(asyncio.Protocol):
        def data_received(self, data):
            calls.append("data")
            got_data.set()

        def eof_received(self):
            calls.append("eof")

        def connection_lost(self, error):
            calls.append(f"lost {error}")
            lost.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, ssl=server_tls)
    running = loop.run_in_executor(None, client, server.sockets[0].getsockname(), got_data)
    await asyncio.wait_for(lost.wait(), 10)
    await running
    server.close()
    return calls


seen = {"asyncio": asyncio.run(callbacks()), "uvloop": uvloop.run(callbacks())}
for loop, calls in seen.items():
    print(f"{loop}: {', '.join(calls)}")
if seen != {"asyncio": ["data", "eof", "lost None"], "uvloop": ["data", "lost None"]}:
    sys.exit("the behaviour has changed")
END
