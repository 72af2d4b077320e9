"""The Engine that the tests are on: the one that DOCKER_HOST names, as the server and the docker command read it.

`docker.APIClient()` alone does not read it: a test that used that would look at another Engine, and clean it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import docker
from docker.utils import kwargs_from_env

from manager.runtime.docker.engine.connection import engine_address


def api_client(version: str = "auto") -> docker.APIClient:
    """A client of the SDK's lower level; `docker.from_env()` is one of the higher."""
    return docker.APIClient(version=version, timeout=60, **kwargs_from_env())


def engine_socket(environment: Mapping[str, str] = os.environ) -> str:
    """The path of the Engine's socket, for what stands in front of it or is given it whole."""
    url = engine_address(environment).url
    if not url.startswith("unix://"):
        raise RuntimeError(f"this test needs an Engine on a socket of this machine, and DOCKER_HOST={url}")
    return url.removeprefix("unix://")
