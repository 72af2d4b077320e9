"""Which sandboxes are whose when nothing is configured: two servers with stores of their own leave each other alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker.host.instance_id import instance_of, name_of, outside
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.conftest import remove_all
from tests.docker.harness import Events, make_settings

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
MOUNTS = """\
600 500 0:50 / / rw - overlay overlay rw
601 600 8:1 /var/lib/docker/volumes/one/_data /var/lib/opensandbox rw - ext4 /dev/sda1 rw
602 600 8:1 /srv/config.toml /etc/opensandbox/config.toml ro - ext4 /dev/sda1 rw
603 600 0:60 / /var/lib rw - tmpfs tmpfs rw
"""


def by_default(execd: str, home: Path, **docker: Any) -> Settings:
    """Settings without docker.instance, with a store in this home."""
    return make_settings(execd, "", home, docker=docker)


@pytest.fixture
def mine(images: tuple[str, str], tmp_path: Path, engine: docker.APIClient) -> Iterator[Settings]:
    """Settings of one of two servers; what a test leaves of its sandboxes is removed."""
    settings = by_default(images[1], tmp_path / "mine")
    yield settings
    remove_all(engine, instance_of(settings))


async def test_servers_with_stores_of_their_own_leave_each_other_alone(
    started: Started, images: tuple[str, str], tmp_path: Path, spec: Spec, mine: Settings
) -> None:
    """Neither sees the other's sandboxes; each finds its own again, also when its store is gone."""
    theirs = by_default(images[1], tmp_path / "theirs")
    first, _ = await started(mine)
    other, _ = await started(theirs)
    made = await first.create(spec(), print)
    assert await other.list() == ()
    assert not await other.delete(made.id)
    await first.stop()
    again, events = await started(mine, leftover_grace=0.0)
    assert [sandbox.id for sandbox in (await events.synced()).sandboxes] == [made.id]
    assert await again.delete(made.id)


def test_the_name_is_the_stores_place(tmp_path: Path) -> None:
    """The same by way of a link, another in another directory; a configured one stays as it is."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    real, link, other = (instance_of(by_default("e", tmp_path / name)) for name in ("real", "link", "other"))
    assert real == link != other
    assert instance_of(by_default("e", tmp_path, instance="mine")) == "mine"


def test_machines_that_share_an_engine_have_names_of_their_own() -> None:
    """The same path on another machine is another store."""
    assert name_of("a", "/root/.opensandbox/gateway.db") != name_of("b", "/root/.opensandbox/gateway.db")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/lib/opensandbox/gateway.db", "/var/lib/docker/volumes/one/_data/gateway.db"),
        ("/var/lib/opensandbox", "/var/lib/docker/volumes/one/_data"),
        ("/var/lib/opensandbox-2/gateway.db", "/opensandbox-2/gateway.db"),
        ("/data/gateway.db", "/data/gateway.db"),
    ],
)
def test_in_a_container_the_volume_is_the_place(path: str, place: str) -> None:
    """Inside, all of them keep it at the same path."""
    assert outside(path, MOUNTS) == place
    assert outside(path, "") == path
