"""A program for a sandbox port that keeps everything open: WebSockets, and answers that end when their client says so.

Standard library only and in one file, since it also runs inside sandboxes: `python3 -c <this text> PORT`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
GREETING = b"\x81\x02hi"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`/short` is answered whole, `/echo` with the body as it comes in, `/late` once the body is whole.

    An upgrade is taken; anything else gets the beginning of an answer.
    """
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" /short " in head:
                writer.write(SHORT)
                continue
            if b" /echo " in head or b" /late " in head:
                await answer_body(reader, writer, head)
                continue
            writer.write(switch(head) if b"upgrade: websocket" in head.lower() else ENDLESS)
            await reader.read()
            break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """Answers a body of a length with the same bytes (`/echo`), or after them (`/late`)."""
    left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    echo = b" /echo " in head
    if echo:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left:
        data = await reader.read(left)
        if not data:
            raise ConnectionError
        left -= len(data)
        if echo:
            writer.write(data)
    if not echo:
        writer.write(SHORT)


def switch(head: bytes) -> bytes:
    """The answer that makes the connection a WebSocket, and its first frame."""
    lines = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:-2])
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")).split(b":")[1]
    accept = base64.b64encode(hashlib.sha1(key.strip() + GUID).digest())
    kind = lines[b"upgrade"].strip()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\nSec-WebSocket-Accept: %b\r\n\r\n%b"
        % (kind, accept, GREETING)
    )


async def main(host: str, port: int) -> None:
    """Serves until it is killed."""
    server = await asyncio.start_server(serve, host, port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the port, for whoever started it
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
