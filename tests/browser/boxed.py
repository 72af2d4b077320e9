"""JupyterLab inside a real sandbox: an image for it, and the request that creates it."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from pathlib import Path
from typing import Any, Final

import docker

from tests.browser.jupyter import OPTIONS, ROOT
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

IMAGE: Final = "opensandbox-test/jupyter:1"
LIBRARIES: Final = ["librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1", "libstdc++.so.6", "libgcc_s.so.1"]
"""What the wheels of kernels and sockets are linked to, and the image of the tests lacks."""
PROGRAMS: Final = ROOT / ".venvs" / "apps"
PORT: Final = 8888
START_SECONDS: Final = 60.0


def build_image(engine: docker.DockerClient) -> None:
    """Adds the libraries to the image of the tests; quick when the Engine has done it before."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        names = [str(path) for name in LIBRARIES for path in Path("/usr/lib").glob(f"*/{name}")]
        for name in names:
            info = tar.gettarinfo(Path(name).resolve(), name.lstrip("/"))
            info.mtime = 0
            with Path(name).open("rb") as data:
                tar.addfile(info, data)
        lines = [f"FROM {SANDBOX_IMAGE}", *(f"COPY {name.lstrip('/')} {name}" for name in names)]
        dockerfile = "\n".join(lines).encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        tar.addfile(info, io.BytesIO(dockerfile))
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=IMAGE, rm=True)


def create(server: ServerProcess) -> str:
    """A sandbox that asks for a credential and runs JupyterLab; returns its id."""
    options = [option for option in OPTIONS if "token" not in option]
    command = [
        str(PROGRAMS / "bin/jupyter-lab"),
        *options,
        "--IdentityProvider.token=",
        "--ip=0.0.0.0",
        f"--port={PORT}",
    ]
    body: dict[str, Any] = {
        "image": {"uri": IMAGE},
        "entrypoint": ["sh", "-c", f"mkdir -p /tmp/work && cd /tmp/work && exec {shlex.join(command)}"],
        "env": {"HOME": "/tmp", "SHELL": "/bin/bash"},
        "timeout": 600,
        "resourceLimits": {"cpu": "2", "memory": "1Gi"},
        "secureAccess": True,
        "volumes": [
            {"name": "programs", "host": {"path": str(PROGRAMS)}, "mountPath": str(PROGRAMS), "readOnly": True}
        ],
    }
    status, made = server.call("POST", "/v1/sandboxes", body)
    if status != 202:
        raise RuntimeError(f"create was answered {status}: {json.dumps(made)}")
    return str(made["id"])


def signed_link(server: ServerProcess, sandbox: str, expires: int) -> str:
    """The link that the API makes, with our port; returned once JupyterLab answers there."""
    status, endpoint = server.call("GET", f"/v1/sandboxes/{sandbox}/endpoints/{PORT}?expires={expires}")
    if status != 200:
        raise RuntimeError(f"the endpoint was answered {status}: {json.dumps(endpoint)}")
    address: str = endpoint["endpoint"]
    label = {"OpenSandbox-Ingress-To": address.partition(".")[0]}
    wait_until(lambda: server.call("GET", "/api", headers=label)[0] == 200, START_SECONDS, "the start of JupyterLab")
    return f"http://{address}:{server.port}"
