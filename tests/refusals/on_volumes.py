"""Refusals of creates for their volumes."""

from __future__ import annotations

from typing import Any

from tests.refusals.catalogue import refusal, refused_creates
from tests.refusals.on_sandboxes import SAID
from tests.refusals.stage import Answer, Stage


def volume(source: dict[str, Any] | None = None, /, **changes: Any) -> dict[str, Any]:
    """The change that makes a create one with a volume."""
    return {"volumes": [{"name": "v", "mountPath": "/v", **(source or {"pvc": {"claimName": "c"}}), **changes}]}


def bucket(**changes: Any) -> dict[str, Any]:
    """The same with a bucket."""
    good = {"bucket": "my-data", "endpoint": "oss.example", "accessKeyId": "id", "accessKeySecret": "secret"}
    return volume({"ossfs": {**good, **changes}})


refused_creates(
    "VOLUME::INVALID_NAME",
    400,
    ("capitals_in_a_name", volume(name="My_Data"), r"volumes: 'My_Data' is not a name: lower-case letters, .*"),
    ("a_long_name", volume(name="a" * 64), r"volumes: 'a{64}' is not a name: .* at most 63 characters\."),
)
refused_creates(
    "VOLUME::DUPLICATE_NAME",
    400,
    (
        "a_name_twice",
        {"volumes": volume()["volumes"] + volume(mountPath="/w")["volumes"]},
        r"volumes: the name 'v' is used twice\.",
    ),
)
refused_creates(
    "VOLUME::INVALID_MOUNT_PATH",
    400,
    ("a_mount_on_the_root", volume(mountPath="/"), r"volumes\[v\]\.mountPath: '/' must be absolute and below '/'\."),
    ("a_mount_on_the_kernels", volume(mountPath="/proc/x"), r"volumes\[v\]\.mountPath: '/proc/x' is reserved\."),
)
refused_creates(
    "VOLUME::INVALID_SUB_PATH",
    400,
    ("a_way_up", volume(subPath="a/../.."), r"volumes\[v\]\.subPath: 'a/\.\./\.\.' must be relative and must not .*"),
)
refused_creates(
    "VOLUME::INVALID_HOST_PATH",
    400,
    (
        "a_path_in_two_ways",
        volume({"host": {"path": "/data/../etc"}}),
        r"volumes\[v\]\.host\.path: '/data/\.\./etc' must be absolute, without .*",
    ),
)
refused_creates(
    "VOLUME::HOST_PATH_NOT_ALLOWED",
    400,
    (
        "a_folder_that_is_not_allowed",
        volume({"host": {"path": "/srv"}}),
        r"Host path '/srv' is not under any allowed prefix\. Allowed prefixes: \['.*'\]",
    ),
    (
        "the_engines_own_folder",
        volume({"host": {"path": "/var/lib/docker"}}),
        r"volumes\[v\]\.host\.path: '/var/lib/docker' holds what belongs to the Engine or to this server\.",
    ),
)
refused_creates(
    "VOLUME::INVALID_PVC_NAME",
    400,
    (
        "a_volume_of_ours",
        volume({"pvc": {"claimName": "opensandbox-execd-x"}}),
        r"volumes\[v\]\.pvc\.claimName: 'opensandbox-execd-x' cannot be used\.",
    ),
)
refused_creates(
    "VOLUME::PVC_NOT_FOUND",
    400,
    (
        "a_volume_that_must_be_there",
        volume({"pvc": {"claimName": "there-is-none-such", "createIfNotExists": False}}),
        r"volumes\[v\]: volume 'there-is-none-such' does not exist\. Create it, or set createIfNotExists\.",
    ),
)
for what, changed, words in (
    ("VERSION", {"version": "3.0"}, r"version: '3\.0' is none of 1\.0, 2\.0\."),
    ("BUCKET", {"bucket": "B!"}, r"bucket: 'B!' is not the name of a bucket\."),
    ("ENDPOINT", {"endpoint": "x; rm"}, r"endpoint: must be a host such as oss-cn-hangzhou\.aliyuncs\.com, .*"),
    ("CREDENTIALS", {"accessKeySecret": ""}, r"accessKeySecret: is empty, too long, or holds what no such key has\."),
    ("OPTION", {"options": ["-o"]}, r"options: '-o' is not for requests to set\."),
):
    row = (f"a_bucket_with_a_bad_{what.lower()}", bucket(**changed), rf"volumes\[v\]\.ossfs\.{words}")
    refused_creates(f"VOLUME::INVALID_OSSFS_{what}", 400, row)
refused_creates(
    "VOLUME::OSSFS_MOUNT_FAILED", 500, ("a_bucket_that_cannot_be_mounted", bucket(), r"volumes\[v\]: 'ossfs2' .*")
)
refused_creates(
    "VOLUME::INVALID_OSSFS_MOUNT_ROOT",
    500,
    ("no_place_for_buckets", bucket(), r"storage\.ossfs_mount_root: \S+ cannot be used: Not a directory\."),
    house="rootless",
)


@refusal("VOLUME::HOST_PATH_CREATE_FAILED", 500, r"volumes\[v\]: directory \S+ could not be made: Not a directory\.")
def a_file_where_a_directory_should_be(stage: Stage) -> Answer:
    file = stage.data / "file"
    file.write_text("")
    answer = stage.house("gateway").create(**volume({"host": {"path": str(file / "below")}}))
    file.unlink()
    return answer


@refusal("VOLUME::PVC_INSPECT_FAILED", 500, rf"The Docker Engine could not tell about volume '\S+': {SAID}")
def a_volume_that_the_engine_cannot_look_at(stage: Stage) -> Answer:
    house, name = stage.house("gateway"), f"{stage.instance}-unseen"
    with stage.refusing("GET", f"/volumes/{name}", SAID):
        return house.create(**volume({"pvc": {"claimName": name}}))


@refusal("SANDBOX::INTERNAL_ERROR", 500, rf"Volume '\S+' could not be made: {SAID}")
def a_volume_that_the_engine_cannot_make(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with stage.refusing("POST", "/volumes/create", SAID):
        return house.create(**volume({"pvc": {"claimName": f"{stage.instance}-unmade"}}))


@refusal(
    "VOLUME::PVC_SUBPATH_UNSUPPORTED_DRIVER",
    400,
    r"volumes\[v\]\.subPath: volume '\S+' is one of driver 'far-away', of which this Engine mounts no part; .*",
)
def a_part_of_a_volume_that_is_elsewhere(stage: Stage) -> Answer:
    house, name = stage.house("gateway"), f"{stage.instance}-far"
    stage.real.create_volume(name)
    # A driver of its own would be a plugin, and those are for every Engine of the machine; a newer one mounts parts.
    with (
        stage.altering("GET", f"/volumes/{name}", lambda told: told.update(Driver="far-away")),
        stage.altering("GET", "/version", lambda told: told.update(ApiVersion="1.41")),
    ):
        answer = house.create(**volume({"pvc": {"claimName": name}}, subPath="part"))
    stage.real.remove_volume(name)
    return answer
