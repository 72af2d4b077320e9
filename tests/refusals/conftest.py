"""A stage for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from tests.docker.conftest import remove_all
from tests.refusals.stage import Stage


@pytest.fixture(scope="module")
def stage(engine: docker.DockerClient, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage; its servers end with the module, since what runs beside tests draws on what these take for theirs."""
    stage = Stage(tmp_path_factory.mktemp("refusals"))
    yield stage
    named = (house.settings.docker.instance for house in stage.houses.values())
    instances = [instance for instance in named if instance is not None]
    stage.close()
    for instance in instances:
        remove_all(engine.api, instance)
