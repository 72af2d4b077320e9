"""The code interpreter's way to readiness: `drive_interpreter.py DOMAIN KEY IMAGE USE_SERVER_PROXY`.

The sandbox only listens where Jupyter would: running code needs the real image, and is not tried.
"""

import asyncio
import json
import sys
from datetime import timedelta

from code_interpreter import CodeInterpreter
from opensandbox import Sandbox
from opensandbox.config import ConnectionConfig

JUPYTER_PORT = "44771"


async def main(domain: str, key: str, image: str, proxy: str) -> dict[str, object]:
    """Creates the sandbox, wraps it once something listens on Jupyter's port, and kills it."""
    config = ConnectionConfig(domain=domain, api_key=key, use_server_proxy=proxy == "true")
    listen = ["python3", "-m", "http.server", JUPYTER_PORT]
    sandbox = await Sandbox.create(image, entrypoint=listen, connection_config=config)
    try:
        interpreter = await CodeInterpreter.create(sandbox, ready_timeout=timedelta(seconds=30))
        return {"id": interpreter.id, "healthy": await interpreter.is_healthy()}
    finally:
        await sandbox.kill()
        await sandbox.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
