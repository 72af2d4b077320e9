"""The core calls by whatever release of the SDK this interpreter has: `drive_sdk.py DOMAIN KEY IMAGE`.

Prints one JSON object: the step, and "ok" or what went wrong. Written for the oldest release, whose options are fewest.
"""

import asyncio
import inspect
import json
import sys
from datetime import timedelta

from opensandbox import Sandbox
from opensandbox.config import ConnectionConfig


async def main(domain: str, key: str, image: str) -> dict[str, str]:
    """Every step in order; the sandbox is killed whatever happened."""
    config = ConnectionConfig(domain=domain, api_key=key)
    try:
        sandbox = await Sandbox.create(
            image, timeout=timedelta(minutes=5), metadata={"by": "drive"}, connection_config=config
        )
    except Exception as failure:
        return {"create": repr(failure)}
    steps = {"create": "ok"}

    async def info() -> bool:
        return (await sandbox.get_info()).status.state == "Running"

    async def endpoint() -> bool:
        return bool((await sandbox.get_endpoint(44772)).endpoint)

    async def ping() -> bool:
        return await sandbox.is_healthy()

    async def command() -> bool:
        done = await sandbox.commands.run("echo said")
        return [line.text.strip() for line in done.logs.stdout] == ["said"]

    async def files() -> bool:
        await sandbox.files.write_file("/root/a.txt", "text")
        return await sandbox.files.read_file("/root/a.txt") == "text"

    async def metrics() -> bool:
        return (await sandbox.get_metrics()).cpu_count > 0

    async def renew() -> bool:
        await sandbox.renew(timedelta(minutes=10))
        return True

    async def pause() -> bool:
        await sandbox.pause()
        return (await sandbox.get_info()).status.state == "Paused"

    async def resume() -> bool:
        if "connection_config" not in inspect.signature(Sandbox.resume).parameters:
            await sandbox.resume()  # the first release resumes in place
            return await sandbox.is_healthy()
        found = await Sandbox.resume(sandbox.id, connection_config=config)
        return await found.is_healthy()

    async def kill() -> bool:
        await sandbox.kill()
        return True

    for step in (info, endpoint, ping, command, files, metrics, renew, pause, resume, kill):
        try:
            steps[step.__name__] = "ok" if await step() else "another answer than expected"
        except Exception as failure:
            steps[step.__name__] = repr(failure)
    await sandbox.close()
    return steps


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
