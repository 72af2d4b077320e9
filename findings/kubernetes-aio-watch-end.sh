#!/bin/sh
# Product: Python package kubernetes 37.0.2, watch.Watch of kubernetes.aio.
# Behaviour: a watch that ends in order is opened again at once, with no pause, for ever, also when it brought no event. A
#   watch whose connection is cut is not opened again: ClientPayloadError of aiohttp reaches the caller.
# Output seen: ends in order: more than 20 requests in 3 s, no event, no error. Cut: 1 request, ClientPayloadError.
# Guess before: both are opened again from the last resourceVersion, after a pause that grows.
# Why it matters: a proxy or API server that ends watches early is asked as fast as the network carries, by every replica;
#   and an exception of another library's ends a controller that only catches ApiException. Both need a loop of one's own.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 200 "$dir/venv/bin/pip" install --quiet kubernetes==37.0.2 aiohttp==3.14.5
timeout 90 "$dir/venv/bin/python" - <<'END'
import asyncio, json, sys
from kubernetes.aio import client, watch

POD = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "n", "resourceVersion": "5"}}
EVENT = json.dumps({"type": "ADDED", "object": POD}).encode() + b"\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


async def watch_for(seconds, body):
    """How many requests came and what the watch raised, when each is answered with this body."""
    requests = 0

    async def serve(reader, writer):
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            writer.write(HEAD + body)
            if not body.endswith(b"0\r\n\r\n"):
                break
        writer.close()

    def connected(reader, writer):
        task = asyncio.ensure_future(serve(reader, writer))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]

    async def read():
        async with client.ApiClient(client.Configuration(host=host)) as api:
            pods = client.CoreV1Api(api).list_namespaced_pod
            async for _ in watch.Watch().stream(pods, "n", resource_version="3"):
                pass

    error = "none"
    try:
        await asyncio.wait_for(read(), seconds)
    except (asyncio.TimeoutError, TimeoutError):
        pass
    except Exception as raised:
        error = type(raised).__name__
    server.close()
    return requests, error


async def main():
    ended = await watch_for(3, b"0\r\n\r\n")
    cut = await watch_for(10, b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
    print("ends in order: requests %d, error %s" % ended)
    print("cut: requests %d, error %s" % cut)
    return ended[0] > 20 and ended[1] == "none" and cut == (1, "ClientPayloadError")


if not asyncio.run(main()):
    sys.exit("the behaviour has changed")
END
