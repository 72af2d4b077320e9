"""Which object-storage volumes may be mounted, and with which options. Pure.

The mount runs on the Engine's host with the privileges of the server, by programs with options that run commands, read
files or use the machine's own cloud role; so there is an allow-list of options, and no value can begin a new line.
"""

from __future__ import annotations

import re

from manager.domain.codes import (
    VOLUME_INVALID_OSSFS_BUCKET,
    VOLUME_INVALID_OSSFS_CREDENTIALS,
    VOLUME_INVALID_OSSFS_ENDPOINT,
    VOLUME_INVALID_OSSFS_OPTION,
    VOLUME_INVALID_OSSFS_VERSION,
    VOLUME_INVALID_SUB_PATH,
)
from manager.domain.errors import Invalid
from manager.domain.sandbox import BucketVolume, VolumeMount

VERSIONS = ("1.0", "2.0")
OPTIONS = frozenset((
    "allow_other", "attr_timeout", "close_to_open", "connect_timeout", "dir_mode", "direct_read", "enable_noobj_cache",
    "entry_timeout", "file_mode", "gid", "kernel_cache", "list_object_max_keys", "max_dirty_data",
    "max_stat_cache_size", "mp_umask", "multipart_size", "multireq_max", "negative_timeout", "noxattr", "oss_region",
    "parallel_count", "prefetch_chunk_size", "prefetch_chunks", "prefetch_concurrency", "readdirplus",
    "readwrite_timeout", "region", "rename_dir_limit", "retries", "ro", "sigv4", "stat_cache_expire", "uid", "umask",
    "upload_buffer_size", "upload_concurrency",
))  # fmt: skip
"""Options that only tune the mount."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"(https?://)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:\d{1,5})?")
_CREDENTIAL = re.compile(r"[\x21-\x39\x3b-\x7e]{1,256}")
_OPTION = re.compile(r"([a-z0-9_]{1,64})(=[A-Za-z0-9_.-]{1,64})?")
_PREFIX = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,1024}")


def check_bucket(volume: VolumeMount, source: BucketVolume) -> None:
    """Raises Invalid, with a code for each kind of mistake, unless the bucket can be mounted as described."""
    place = f"volumes[{volume.name}].ossfs"
    if source.version not in VERSIONS:
        raise Invalid(
            VOLUME_INVALID_OSSFS_VERSION,
            f"{place}.version: '{source.version[:20]}' is none of {', '.join(VERSIONS)}.",
        )
    if _BUCKET.fullmatch(source.bucket) is None:
        raise Invalid(
            VOLUME_INVALID_OSSFS_BUCKET, f"{place}.bucket: '{source.bucket[:64]}' is not the name of a bucket."
        )
    if _ENDPOINT.fullmatch(source.endpoint) is None:
        words = "must be a host such as oss-cn-hangzhou.aliyuncs.com, with https:// and a port if need be"
        raise Invalid(VOLUME_INVALID_OSSFS_ENDPOINT, f"{place}.endpoint: {words}.")
    for name, value in (("accessKeyId", source.access_key_id), ("accessKeySecret", source.access_key_secret)):
        if _CREDENTIAL.fullmatch(value) is None:
            raise Invalid(
                VOLUME_INVALID_OSSFS_CREDENTIALS,
                f"{place}.{name}: is empty, too long, or holds what no such key has.",
            )
    for option in source.options:
        found = _OPTION.fullmatch(option)
        if found is None or found[1] not in OPTIONS:
            raise Invalid(VOLUME_INVALID_OSSFS_OPTION, f"{place}.options: '{option[:64]}' is not for requests to set.")
    if volume.sub_path is not None and _PREFIX.fullmatch(volume.sub_path) is None:
        raise Invalid(VOLUME_INVALID_SUB_PATH, f"volumes[{volume.name}].subPath: must not hold control characters.")


def url_of(source: BucketVolume) -> str:
    """The endpoint with its scheme."""
    return source.endpoint if "://" in source.endpoint else f"https://{source.endpoint}"
