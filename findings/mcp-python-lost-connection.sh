#!/bin/sh
# Product: Python package mcp 2.3.0, its Client over streamable HTTP (with httpx2 2.16.2).
# Behaviour: two tool calls run at the same time. For one of them the connection closes before any answer: the whole client
#   ends. The other call fails with "Connection closed" though its answer was on the way, so does every later one, and
#   leaving the client raises an ExceptionGroup. A 502 instead fails its own call and nothing else.
# Output seen: after 502: other call ok, later call ok. After a closed connection: other call and later call fail, the block
#   ends with ExceptionGroup.
# Guess before: only the call whose connection was lost fails, with a connection error.
# Why it matters: one connection dropped by a proxy, a restart or an idle timeout costs an agent all tools of that server
#   until it connects anew. To answer 502 where a sandbox is lost is worth much more than to close.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 200 "$dir/venv/bin/pip" install --quiet mcp==2.3.0 httpx2==2.16.2
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, json, sys
from mcp import Client


async def serve(reader, writer):
    def answer(status, body=b"", extra=""):
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    def result(message, value, extra=""):
        answer("200 OK", json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": value}).encode(), extra)

    try:
        while (line := await reader.readline()).strip():
            length = 0
            while (field := await reader.readline()).strip():
                if field.lower().startswith(b"content-length:"):
                    length = int(field.split(b":")[1])
            message = json.loads(await reader.readexactly(length) or b"{}")
            method, name = message.get("method"), message.get("params", {}).get("name")
            if not line.startswith(b"POST") or method == "server/discover":
                answer("405 Method Not Allowed")
            elif "id" not in message:
                answer("202 Accepted")
            elif method == "initialize":
                about = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
                result(message, about | {"serverInfo": {"name": "s", "version": "1"}}, "Mcp-Session-Id: 1\r\n")
            elif method == "tools/list":
                result(message, {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in ("ok", "close", "502")]})
            elif name == "ok":
                await asyncio.sleep(1)
                result(message, {"content": []})
            elif name == "502":
                answer("502 Bad Gateway")
            else:
                break
    finally:
        writer.close()


async def outcome(client, tool):
    try:
        await client.call_tool(tool, {})
        return "ok"
    except (Exception, asyncio.CancelledError):
        return "failed"


async def run(url, broken):
    calls = []
    try:
        async with Client(url) as client:
            other = asyncio.create_task(outcome(client, "ok"))
            await asyncio.sleep(0.2)
            calls.append(await outcome(client, broken))
            calls.append(await other)
            calls.append(await outcome(client, "ok"))
        calls.append("left in peace")
    except BaseExceptionGroup as error:
        calls.append(type(error).__name__)
    return calls


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/mcp" % server.sockets[0].getsockname()[1]
    seen = {broken: await run(url, broken) for broken in ("502", "close")}
    for broken, calls in seen.items():
        print(f"{broken}: that call {calls[0]}, call at the same time {calls[1]}, later call {calls[2]}, end: {calls[3]}")
    await asyncio.sleep(1.2)  # the server's last answer, to nobody
    return seen


expected = {"502": ["failed", "ok", "ok", "left in peace"], "close": ["failed", "failed", "failed", "ExceptionGroup"]}
if asyncio.run(asyncio.wait_for(main(), 40)) != expected:
    sys.exit("the behaviour has changed")
END
