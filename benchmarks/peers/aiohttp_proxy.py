"""The naive proxy: an aiohttp handler in front of an aiohttp client session. `aiohttp_proxy.py PORT BACKEND`."""

from __future__ import annotations

import sys

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length"}
CHUNK = 64 * 1024


def main() -> None:
    """Serves until it is ended."""
    port, backend = int(sys.argv[1]), int(sys.argv[2])
    sessions: list[ClientSession] = []

    async def opened(_: web.Application) -> None:
        sessions.append(
            ClientSession(
                connector=TCPConnector(limit=0),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None),
                auto_decompress=False,
            )
        )

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        headers += [("X-Forwarded-For", request.remote or ""), ("X-Forwarded-Host", request.host)]
        headers += [("X-Forwarded-Proto", request.scheme)]
        body = request.content if request.body_exists else None
        url = f"http://127.0.0.1:{backend}{request.raw_path}"
        async with sessions[0].request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as upstream:
            kept = [(name, value) for name, value in upstream.headers.items() if name.lower() not in HOP_BY_HOP]
            answer = web.StreamResponse(status=upstream.status, headers=dict(kept))
            answer.content_length = upstream.content_length
            await answer.prepare(request)
            async for chunk in upstream.content.iter_chunked(CHUNK):
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    app = web.Application(client_max_size=0)
    app.on_startup.append(opened)
    app.router.add_route("*", "/{tail:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
