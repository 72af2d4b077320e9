"""An MCP client that uses every tool of the released MCP server: `drive_mcp.py TRANSPORT IMAGE COMMAND…`.

The transport is `stdio`, or `http:PORT`, where the server is started first and then called over HTTP. Prints one JSON
object: what the tools said, which there are, and which were called.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

START_SECONDS = 30
Call = Callable[..., Any]


@contextlib.asynccontextmanager
async def served(port: str, command: str, *arguments: str) -> AsyncIterator[str]:
    """The server over HTTP, from the moment it listens to the end of the block; gives its address."""
    options = ("--transport", "streamable-http", "--port", port)
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(command, *arguments, *options, stdout=nowhere, stderr=nowhere)
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", int(port))
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def session(transport: str, command: str, *arguments: str) -> AsyncIterator[ClientSession]:
    """A session with the server, over whichever transport."""
    async with contextlib.AsyncExitStack() as stack:
        if transport == "stdio":
            parameters = StdioServerParameters(command=command, args=list(arguments))
            streams = await stack.enter_async_context(stdio_client(parameters))
        else:
            address = await stack.enter_async_context(served(transport.partition(":")[2], command, *arguments))
            streams = await stack.enter_async_context(streamable_http_client(address))
        opened = await stack.enter_async_context(ClientSession(*streams[:2]))
        await opened.initialize()
        yield opened


async def work(call: Call, image: str) -> dict[str, Any]:
    """Everything an agent can do, in an order that makes sense."""
    said: dict[str, Any] = {"id": (await call("sandbox_create", image=image, metadata={"by": "mcp"}))["sandbox_id"]}
    one = {"sandbox_id": said["id"]}
    await call("sandbox_connect", **one)
    said["state"] = (await call("sandbox_get_info", **one))["status"]["state"]
    said["command"] = await call("command_run", command="echo said", **one)
    running = await call("command_run", command="sleep 600", background=True, **one)
    said["interrupted"] = await call("command_interrupt", execution_id=running["id"], **one)
    await call("file_create_directories", entries=[{"path": "/root/d"}], **one)
    await call("file_write", path="/root/d/a", content="one two", **one)
    change = {"path": "/root/d/a", "old_content": "two", "new_content": "three"}
    await call("file_replace_contents", entries=[change], **one)
    await call("file_move", entries=[{"source": "/root/d/a", "destination": "/root/d/b"}], **one)
    said["found"] = await call("file_search", path="/root/d", pattern="*", **one)
    said["file"] = await call("file_read", path="/root/d/b", **one)
    await call("file_delete", paths=["/root/d/b"], **one)
    await call("file_delete_directories", paths=["/root/d"], **one)
    said["list"] = await call("sandbox_list", filter={"metadata": {"by": "mcp"}})
    said["metrics"] = await call("sandbox_get_metrics", **one)
    said["health"] = await call("sandbox_healthcheck", **one)
    said["endpoint"] = await call("sandbox_get_endpoint", port=8000, **one)
    said["renewed"] = await call("sandbox_renew", timeout_seconds=1200, **one)
    said["killed"] = await call("sandbox_kill", **one)
    return said


async def main(transport: str, image: str, command: str, *arguments: str) -> dict[str, Any]:
    """Opens a session, works in it, and adds which tools there are and which were called."""
    called: set[str] = set()
    async with session(transport, command, *arguments) as opened:

        async def call(name: str, **values: Any) -> Any:
            result = (await opened.call_tool(name, values)).model_dump(by_alias=True)
            if result["isError"]:
                raise RuntimeError(f"{name}: {result['content']}")
            called.add(name)
            return result["structuredContent"]

        said = await work(call, image)
        tools = [tool.name for tool in (await opened.list_tools()).tools]
    return {**said, "tools": sorted(tools), "called": sorted(called)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
