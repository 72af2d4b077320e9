"""An MCP client that uses the released MCP server over standard input and output: `drive_mcp.py IMAGE COMMAND…`."""

import asyncio
import json
import sys
from typing import Any

from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client


async def main(image: str, command: str, *arguments: str) -> dict[str, Any]:
    """Creates, runs, writes, reads, lists and kills by tool calls; returns what they said."""
    said: dict[str, Any] = {}
    server = StdioServerParameters(command=command, args=list(arguments))
    async with stdio_client(server) as (reads, writes), ClientSession(reads, writes) as session:
        await session.initialize()

        async def call(name: str, **values: Any) -> Any:
            result = (await session.call_tool(name, values)).model_dump(by_alias=True)
            if result["isError"]:
                raise RuntimeError(f"{name}: {result['content']}")
            return result["structuredContent"]

        said["id"] = (await call("sandbox_create", image=image))["sandbox_id"]
        one = {"sandbox_id": said["id"]}
        said["command"] = await call("command_run", command="echo said", **one)
        await call("file_write", path="/root/a.txt", content="text", **one)
        said["file"] = await call("file_read", path="/root/a.txt", **one)
        said["list"] = await call("sandbox_list")
        said["health"] = await call("sandbox_healthcheck", **one)
        said["endpoint"] = await call("sandbox_get_endpoint", port=8000, **one)
        said["killed"] = await call("sandbox_kill", **one)
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
