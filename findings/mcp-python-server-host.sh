#!/bin/sh
# Product: Python package mcp 2.3.0, an MCPServer as an ASGI application, under uvicorn 0.54.0.
# Behaviour: streamable_http_app() takes host="127.0.0.1" for granted wherever the application is really bound, and then
#   refuses every Host that is not 127.0.0.1, localhost or [::1] WITH a port: "localhost" alone is refused as well. The
#   answer is 421, not 400 or 403.
# Output seen: 127.0.0.1 with its port 200, localhost 421, 8000-abc.sandbox.example.com 421.
# Guess before: an application answers for any Host unless told otherwise, surely for plain localhost.
# Why it matters: an MCP server in a sandbox answers 421 behind every public name, and the fault looks like the gateway's.
#   It has to be given transport_security with the public name.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 200 "$dir/venv/bin/pip" install --quiet mcp==2.3.0 uvicorn==0.54.0
timeout 60 "$dir/venv/bin/python" - 2>/dev/null <<'END'
import json, socket, sys, threading, time, uvicorn
from mcp.server.mcpserver import MCPServer

config = uvicorn.Config(MCPServer("server").streamable_http_app(), host="0.0.0.0", port=0, log_level="critical")
server = uvicorn.Server(config)
threading.Thread(target=server.run, daemon=True).start()
until = time.monotonic() + 20
while not server.started and time.monotonic() < until:
    time.sleep(0.05)
port = server.servers[0].sockets[0].getsockname()[1]
about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "client", "version": "1"}}
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about})


def ask(host):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
        )
        return int(connection.makefile("rb").readline().split()[1])


seen = {host: ask(host) for host in (f"127.0.0.1:{port}", "localhost", "8000-abc.sandbox.example.com")}
for host, status in seen.items():
    print(host, status)
if list(seen.values()) != [200, 421, 421]:
    print("the behaviour has changed")
    sys.exit(1)
END
