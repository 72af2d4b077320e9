#!/bin/sh
# Product: Python package uvloop 0.23.0, beside asyncio of CPython 3.11.
# Behaviour: 500 clients wait in the backlog of a listener made with backlog=1000. asyncio accepts all of them in one turn
#   of the loop, so the "backlog" is also the length of that burst. uvloop accepts one in each turn.
# Output seen: asyncio: 500 in the fullest turn. uvloop: 1 in the fullest turn.
# Guess before: both accept one connection each time the listener is readable; a backlog is a matter of the kernel alone.
# Why it matters: a large backlog, there to survive a reconnecting crowd, makes asyncio run thousands of connection_made
#   calls before it serves anybody; on uvloop the same crowd is let in at the pace of the loop, one beside each round of work.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 120 "$dir/venv/bin/pip" install --quiet uvloop==0.23.0
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, collections, socket, sys, uvloop

CLIENTS = 500


async def fullest_turn():
    turn, made = 0, collections.Counter()

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            made[turn] += 1

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1000)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(CLIENTS)]
    while made.total() < CLIENTS:
        turn += 1
        await asyncio.sleep(0)
    for client in clients:
        client.close()
    server.close()
    return max(made.values())


seen = {"asyncio": asyncio.run(fullest_turn()), "uvloop": uvloop.run(fullest_turn())}
for loop, count in seen.items():
    print(f"{loop}: {count} in the fullest turn")
if seen != {"asyncio": CLIENTS, "uvloop": 1}:
    sys.exit("the behaviour has changed")
END
