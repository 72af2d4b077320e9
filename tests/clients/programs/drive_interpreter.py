"""The code interpreter's client, both flavours: `drive_interpreter.py DOMAIN KEY IMAGE USE_SERVER_PROXY`.

Something has to listen where Jupyter would, or the client does not get ready; the code itself is run by execd's
stand-in, which knows Python only. Prints one JSON object with what each flavour was told.
"""

import asyncio
import json
import sys
import threading
from typing import Any

from code_interpreter import CodeInterpreter, CodeInterpreterSync
from opensandbox import Sandbox, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxException

JUPYTER_PORT = "44771"
PYTHON = "python"
FIRST = "print('said'); x = 20\nx + 1"
SECOND = "x * 2"
ENDLESS = "print('begun')\nwhile True: pass"


def told(execution: Any) -> dict[str, Any]:
    """What a piece of code did."""
    return {
        "stdout": "".join(line.text for line in execution.logs.stdout),
        "result": [result.text for result in execution.result],
        "error": execution.error.name if execution.error else None,
        "count": execution.execution_count,
    }


async def drive(sandbox: Sandbox) -> dict[str, Any]:
    """Contexts and code by the asynchronous flavour."""
    async with await CodeInterpreter.create(sandbox) as interpreter:
        codes = interpreter.codes
        context = await codes.create_context(PYTHON)
        said = {
            "healthy": await interpreter.is_healthy(),
            "runs": [told(await codes.run(code, context=context)) for code in (FIRST, SECOND, "1 / 0")],
            "without context": told(await codes.run(SECOND, language=PYTHON)),
            "listed": context.id in [known.id for known in await codes.list_contexts(PYTHON)],
        }
        running = asyncio.create_task(codes.run(ENDLESS, context=context))
        while not running.done():
            await codes.interrupt(str(context.id))
            await asyncio.wait([running], timeout=0.1)
        said["interrupted"] = told(running.result())["error"]
        said["found"] = (await codes.get_context(str(context.id))).id == context.id
        await codes.delete_context(str(context.id))
        try:
            await codes.get_context(str(context.id))
        except SandboxException as refused:
            said["deleted"] = getattr(refused, "status_code", None)
        await codes.delete_contexts(PYTHON)
        return said


def drive_sync(sandbox: SandboxSync) -> dict[str, Any]:
    """The same by the synchronous one."""
    codes = CodeInterpreterSync.create(sandbox).codes
    context = codes.create_context(PYTHON)
    said: dict[str, Any] = {
        "runs": [told(codes.run(code, context=context)) for code in (FIRST, SECOND, "1 / 0")],
        "without context": told(codes.run(SECOND, language=PYTHON)),
        "listed": context.id in [known.id for known in codes.list_contexts(PYTHON)],
        "found": codes.get_context(str(context.id)).id == context.id,
    }
    endless = threading.Thread(
        target=lambda: said.update(interrupted=told(codes.run(ENDLESS, context=context))["error"])
    )
    endless.start()
    while endless.is_alive():
        codes.interrupt(str(context.id))
        endless.join(0.1)
    codes.delete_context(str(context.id))
    return said | {"deleted": codes.delete_contexts(PYTHON) or codes.list_contexts(PYTHON)}


async def main(domain: str, key: str, image: str, proxy: str) -> dict[str, Any]:
    """Creates the sandbox, lets both flavours work in it, and kills it."""
    options: dict[str, Any] = {"domain": domain, "api_key": key, "use_server_proxy": proxy == "true"}
    listen = ["python3", "-m", "http.server", JUPYTER_PORT]
    sandbox = await Sandbox.create(image, entrypoint=listen, connection_config=ConnectionConfig(**options))
    try:
        said = {"async": await drive(sandbox)}
        config = ConnectionConfigSync(**options)
        said["sync"] = drive_sync(SandboxSync.connect(sandbox.id, connection_config=config))
        return said
    finally:
        await sandbox.kill()
        await sandbox.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
