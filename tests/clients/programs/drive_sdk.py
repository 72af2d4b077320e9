"""The core calls by whatever release of the SDK this interpreter has: `drive_sdk.py IMAGE SERVERS`.

SERVERS is a JSON object: the name of a mode, and the domain, the key and whether to use the server's proxy path in it.
Prints one JSON object: by flavour and mode, `ok`, what this release has no option for, or the steps that failed and
how. Written for the oldest release, whose options are fewest; all modes are driven at once.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import opensandbox
import opensandbox.config
from opensandbox.models.filesystem import WriteEntry
from opensandbox.models.sandboxes import SandboxEndpoint

EXECD_PORT = 44772
FLAVOURS = {"async": ("Sandbox", "ConnectionConfig"), "sync": ("SandboxSync", "ConnectionConfigSync")}
OK = "ok"


async def settled(value: Any) -> Any:
    """What a call gave, in whichever flavour."""
    return await value if inspect.isawaitable(value) else value


class Core:
    """One sandbox and the calls every release has."""

    def __init__(self, kind: Any, config: Any, sandbox: Any) -> None:
        self.kind, self.config, self.sandbox = kind, config, sandbox

    async def info(self) -> bool:
        return bool((await settled(self.sandbox.get_info())).status.state == "Running")

    async def endpoint(self) -> bool:
        return bool((await settled(self.sandbox.get_endpoint(EXECD_PORT))).endpoint)

    async def ping(self) -> bool:
        return bool(await settled(self.sandbox.is_healthy()))

    async def command(self) -> bool:
        done = await settled(self.sandbox.commands.run("echo said"))
        return [line.text.strip() for line in done.logs.stdout] == ["said"]

    async def files(self) -> bool:
        await settled(self.sandbox.files.write_files([WriteEntry(path="/root/a.txt", data="text")]))
        return bool(await settled(self.sandbox.files.read_file("/root/a.txt")) == "text")

    async def metrics(self) -> bool:
        return bool((await settled(self.sandbox.get_metrics())).cpu_count > 0)

    async def renew(self) -> bool:
        await settled(self.sandbox.renew(timedelta(minutes=10)))
        return True

    async def pause(self) -> bool:
        await settled(self.sandbox.pause())
        return bool((await settled(self.sandbox.get_info())).status.state == "Paused")

    async def resume(self) -> bool:
        if "connection_config" not in inspect.signature(self.kind.resume).parameters:
            await settled(self.sandbox.resume())  # the first releases resume in place
            return await self.ping()
        found = await settled(self.kind.resume(self.sandbox.id, connection_config=self.config))
        return bool(await settled(found.is_healthy()))

    async def kill(self) -> bool:
        await settled(self.sandbox.kill())
        await settled(self.sandbox.close())
        return True


STEPS: list[Callable[[Core], Any]] = [
    Core.info, Core.endpoint, Core.ping, Core.command, Core.files, Core.metrics,
    Core.renew, Core.pause, Core.resume, Core.kill,
]  # fmt: skip


def lacking(config: Any, mode: str, proxy: bool) -> str | None:
    """What the mode needs and this release has not."""
    if proxy and "use_server_proxy" not in config.model_fields:
        return "no option for the server's proxy path"
    if mode == "header" and "headers" not in SandboxEndpoint.model_fields:
        return "sends no headers of an endpoint"
    return None


async def core(kind: Any, config_kind: Any, image: str, mode: str, domain: str, key: str, proxy: bool) -> Any:
    """Every step in order, whatever became of the one before."""
    if missing := lacking(config_kind, mode, proxy):
        return missing
    config = config_kind(domain=domain, api_key=key, **({"use_server_proxy": True} if proxy else {}))
    failed: dict[str, str] = {}
    try:
        sandbox = await settled(kind.create(image, timeout=timedelta(minutes=5), connection_config=config))
    except Exception as failure:
        return {"create": repr(failure)}
    for step in STEPS:
        try:
            if not await step(Core(kind, config, sandbox)):
                failed[step.__name__] = "another answer than expected"
        except Exception as failure:
            failed[step.__name__] = repr(failure)
    return failed or OK


async def flavour(names: tuple[str, str], image: str, servers: dict[str, list[Any]]) -> Any:
    """All modes at once, the synchronous calls in threads of their own."""
    kind, config_kind = getattr(opensandbox, names[0], None), getattr(opensandbox.config, names[1], None)
    if kind is None or config_kind is None:
        return "not in this release"
    runs = [
        asyncio.to_thread(asyncio.run, core(kind, config_kind, image, mode, *told)) for mode, told in servers.items()
    ]
    return dict(zip(servers, await asyncio.gather(*runs), strict=True))


async def main(image: str, servers: str) -> dict[str, Any]:
    """One flavour after the other."""
    return {name: await flavour(kinds, image, json.loads(servers)) for name, kinds in FLAVOURS.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
