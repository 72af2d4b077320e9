"""Volume rules on text and on real paths."""

from __future__ import annotations

from typing import Any

import pytest

from manager.domain.errors import Invalid
from manager.domain.sandbox import BucketVolume, HostVolume, NamedVolume, VolumeMount
from manager.domain.volumes import check_host_place, check_mounts, within


def mount(**changes: Any) -> VolumeMount:
    """A volume that is fine."""
    return VolumeMount(**{"name": "data", "mount_path": "/data", "source": HostVolume("/srv/data"), **changes})


def bucket(**changes: Any) -> BucketVolume:
    """A bucket that is fine."""
    fields = {"bucket": "my-data", "endpoint": "oss.example.com", "access_key_id": "id", "access_key_secret": "key"}
    return BucketVolume(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "Data"}, "VOLUME::INVALID_NAME"),
        ({"name": "a" * 64}, "VOLUME::INVALID_NAME"),
        ({"mount_path": "data"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/"}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/a/../b"}, "VOLUME::INVALID_MOUNT_PATH"),
        *(
            ({"mount_path": path}, "VOLUME::INVALID_MOUNT_PATH")
            for path in ("//", "//proc/1", "//data", "/.", "/data/..")
        ),
        ({"mount_path": "/" + "a" * 256}, "VOLUME::INVALID_MOUNT_PATH"),
        ({"mount_path": "/a" * 2100}, "VOLUME::INVALID_MOUNT_PATH"),
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


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"version": "3.0"}, "VERSION", "version"),
        ({"bucket": "My_Data"}, "BUCKET", "bucket"),
        ({"bucket": "ab"}, "BUCKET", "bucket"),
        ({"endpoint": ""}, "ENDPOINT", "endpoint"),
        ({"endpoint": "oss.example.com/path"}, "ENDPOINT", "endpoint"),
        ({"endpoint": "oss.example.com\n--credential_process=reboot"}, "ENDPOINT", "endpoint"),
        ({"endpoint": "ftp://store.example.com"}, "ENDPOINT", "endpoint"),
        ({"access_key_id": ""}, "CREDENTIALS", "accessKeyId"),
        ({"access_key_secret": " "}, "CREDENTIALS", "accessKeySecret"),
        ({"access_key_secret": "a\n--ram_role=admin"}, "CREDENTIALS", "accessKeySecret"),
        ({"options": ("-o",)}, "OPTION", "options"),
        ({"options": ("ro;reboot",)}, "OPTION", "options"),
        ({"options": ("credential_process=reboot",)}, "OPTION", "options"),
        ({"options": ("passwd_file=shadow",)}, "OPTION", "options"),
        ({"options": ("uid=1,url=x",)}, "OPTION", "options"),
    ],
)
def test_buckets_that_are_refused(changes: dict[str, Any], code: str, field: str) -> None:
    """Each rule has its code and names the field; no secret is repeated, and nothing begins a line of its own."""
    with pytest.raises(Invalid) as raised:
        check_mounts([mount(source=bucket(**changes))])
    assert raised.value.code == f"VOLUME::INVALID_OSSFS_{code}"
    assert f"volumes[data].ossfs.{field}: " in raised.value.message
    assert "ram_role" not in raised.value.message


def test_the_part_of_a_bucket_is_one_line() -> None:
    """It is written into a file of flags."""
    with pytest.raises(Invalid) as raised:
        check_mounts([mount(source=bucket(), sub_path="a\n--credential_process=reboot")])
    assert raised.value.code == "VOLUME::INVALID_SUB_PATH"


def test_buckets_that_are_accepted() -> None:
    """Either version, with or without scheme and port, with options that tune."""
    for version, endpoint in (("1.0", "oss.example.com"), ("2.0", "https://oss.example.com:8443")):
        source = bucket(version=version, endpoint=endpoint, options=("ro", "max_stat_cache_size=0", "umask=022"))
        check_mounts([mount(source=source, sub_path="some/part")])


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
