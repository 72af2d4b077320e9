"""The path of the environment file that execd reads for every command (EXECD_ENVS). Pure.

Programs in the sandbox append to it, so it is writable for every user of the image, and in the container's own file
system, so that a snapshot keeps it. It is not in a folder that people and agents use. A restored sandbox keeps the path
of its source, and so the variables written there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from manager.runtime.docker.labels import SNAPSHOT, SNAPSHOT_ENVS

NAME = "EXECD_ENVS"
IN_CONTAINER = "/var/tmp/.opensandbox.env"
"""Where execd is mounted, and its folder cannot be written."""
BESIDE_EXECD = "/opt/opensandbox/.env"
"""Where execd is copied in; the place of the released server, too."""
EARLIER = "/tmp/.opensandbox.env"
"""Where it was with the first snapshots of ours, which do not say where it is."""
PLACES = (IN_CONTAINER, BESIDE_EXECD, EARLIER)


def place_in(environment: Sequence[str]) -> str:
    """The place that a container's variables name; empty for any that is none of ours."""
    found = next((entry.partition("=")[2] for entry in environment if entry.startswith(f"{NAME}=")), "")
    return found if found in PLACES else ""


def place_of_snapshot(labels: Mapping[str, str]) -> str:
    """The place in an image that is a snapshot, by its labels; one without any of ours is of the released server."""
    if not labels.get(SNAPSHOT):
        return BESIDE_EXECD
    told = labels.get(SNAPSHOT_ENVS, "")
    return told if told in PLACES else EARLIER
