"""Volume rules on text and on real paths."""

from __future__ import annotations

from typing import Any

import pytest

from manager.domain.errors import Invalid
from manager.domain.sandbox import HostVolume, NamedVolume, VolumeMount
from manager.domain.volumes import check_host_place, check_mounts, within


def mount(**changes: Any) -> VolumeMount:
    """A volume that is fine."""
    return VolumeMount(**{"name": "data", "mount_path": "/data", "source": HostVolume("/srv/data"), **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "Data"}, "VOLUME::INVALID_NAME"),
        ({"name": "a" * 64}, "VOLUME::INVALID_NAME"),
        ({"mount_path": "data"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/a/../b"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/.opensandbox/bin"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/proc/1"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"sub_path": "/abs"}, "VOLUME::INVALID_SUB_PATH"),
        ({"sub_path": "a/../../b"}, "VOLUME::INVALID_SUB_PATH"),
        ({"source": HostVolume("relative")}, "VOLUME::INVALID_HOST_PATH"),
        ({"source": HostVolume("/srv//data")}, "VOLUME::INVALID_HOST_PATH"),
        ({"source": HostVolume("/srv/data/")}, "VOLUME::INVALID_HOST_PATH"),
        ({"source": HostVolume("/srv/../etc")}, "VOLUME::INVALID_HOST_PATH"),
        ({"source": NamedVolume("no/slash")}, "VOLUME::INVALID_PVC_NAME"),
        ({"source": NamedVolume("opensandbox-execd-default-0123")}, "VOLUME::INVALID_PVC_NAME"),
    ],
)
def test_refused(changes: dict[str, Any], code: str) -> None:
    """Each rule has its code."""
    with pytest.raises(Invalid) as raised:
        check_mounts([mount(**changes)])
    assert raised.value.code == code


def test_names_and_mount_paths_are_used_once() -> None:
    """Two volumes of one name, or on one path."""
    with pytest.raises(Invalid) as raised:
        check_mounts([mount(), mount(mount_path="/other")])
    assert raised.value.code == "VOLUME::DUPLICATE_NAME"
    with pytest.raises(Invalid) as raised:
        check_mounts([mount(), mount(name="b", mount_path="/data/")])
    assert raised.value.code == "VOLUME::INVALID_MOUNT_PATH"


def test_accepted() -> None:
    """Host and named volumes with sub-paths."""
    check_mounts([mount(sub_path="a/b"), mount(name="b", mount_path="/b", source=NamedVolume("My_claim.1"))])


PROTECTED = ("/run/docker.sock", "/home/u/.opensandbox")


@pytest.mark.parametrize("path", ["/", "/run", "/run/docker.sock", "/home", "/home/u/.opensandbox/x"])
def test_protected_places(path: str) -> None:
    """Neither the place, nor below it, nor what contains it, whatever is allowed."""
    for allowed in ([], ["/"]):
        with pytest.raises(Invalid):
            check_host_place("data", path, allowed, PROTECTED)


def test_allowed_places() -> None:
    """Whole segments count; an empty list allows all but the protected."""
    check_host_place("data", "/srv/data/x", ["/srv/data"], PROTECTED)
    check_host_place("data", "/opt", [], PROTECTED)
    with pytest.raises(Invalid):
        check_host_place("data", "/srv/database", ["/srv/data"], PROTECTED)


def test_within_is_by_segments() -> None:
    """A common beginning is no common folder."""
    assert within("/a/b", "/a")
    assert within("/a", "/a")
    assert within("/a", "/")
    assert not within("/ab", "/a")
