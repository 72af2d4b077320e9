"""A program for a sandbox port that keeps everything open: WebSockets, and answers that never end.

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
    """`/short` is answered whole, an upgrade is taken, anything else gets the beginning of an answer."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" /short " in head:
                writer.write(SHORT)
                continue
            writer.write(switch(head) if b"upgrade: websocket" in head.lower() else ENDLESS)
            await reader.read()
            break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


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
