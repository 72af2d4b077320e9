#!/bin/sh
# Product: Python package aiohttp 3.14.5, the client.
# Behaviour: a reused connection is closed by the server after it has read a whole request. aiohttp sends the request once
#   more on a new connection by itself, also PUT with its body and DELETE; POST raises. No option was set.
# Output seen: GET 2 times, PUT 2 times, DELETE 2 times, POST 1 time and ServerDisconnectedError.
# Guess before: aiohttp never repeats a request; that is left to its caller.
# Why it matters: a program in a sandbox that dies at a request gets the request again, and a gateway counts two requests
#   where the user made one. A gateway's own decision not to repeat PUT does not keep its clients from doing so.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 120 "$dir/venv/bin/pip" install --quiet aiohttp==3.14.5
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, sys, aiohttp

BODY = b"body"
seen = []


async def serve(reader, writer):
    """Answer the first request of a connection; read the second to its end, then close, once per method."""
    first = True
    try:
        while True:
            method, length = "", 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                method = method or line.decode().split()[0]
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not method:
                break
            body = await reader.readexactly(length)
            seen.append((method, body))
            if not first:
                break
            first = False
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]
    results = {}
    for method in ("GET", "PUT", "DELETE", "POST"):
        async with aiohttp.ClientSession() as client:
            await (await client.get(url)).read()
            seen.clear()
            try:
                outcome = (await client.request(method, url, data=BODY if method[0] == "P" else None)).status
            except aiohttp.ClientError as error:
                outcome = type(error).__name__
            results[method] = (len(seen), outcome)
            print(method, "sent", len(seen), "time(s):", outcome, seen[-1])
    server.close()
    return results


expected = {"GET": (2, 200), "PUT": (2, 200), "DELETE": (2, 200), "POST": (1, "ServerDisconnectedError")}
if asyncio.run(main()) != expected:
    sys.exit("the behaviour has changed")
END
