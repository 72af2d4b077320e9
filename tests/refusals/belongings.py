"""What there is of a stage at one moment, on the Engine and beside it, so that two moments can be compared."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.refusals.stage import Stage

Belongings = dict[str, frozenset[str]]
Named = tuple[str, dict[str, str] | None]
"""A name on the Engine, and the labels of what has it."""
INSTANCE = "opensandbox.io/instance"


def belongings(stage: Stage) -> Belongings:
    """Everything, by kind. The Engine is asked itself.

    Of what it has, ours is what carries a label of ours and whatever it was ever told to make for us: every call of
    these servers goes through a socket that keeps a list. Other tests' things come and go meanwhile.
    """
    houses = list(stage.houses.values())
    return {
        **{kind: frozenset(_ours(stage, kind, there(stage))) for kind, there in KINDS.items()},
        "directories": frozenset(_below(str(stage.data))) | frozenset(_below(str(stage.folder / "buckets"))),
        "store rows": frozenset(f"{house.name} {row}" for house in houses for row in house.rows()),
        "ports": frozenset(str(port) for house in houses for port in house.runtime._tools.ports._held),
        "known ids": frozenset(one for house in houses for one in house.services.inventory.ids_newest_first()),
    }


def _containers(stage: Stage) -> Iterator[Named]:
    for entry in stage.real.containers(all=True):
        yield from ((name.lstrip("/"), entry["Labels"]) for name in entry["Names"])


def _volumes(stage: Stage) -> Iterator[Named]:
    yield from ((entry["Name"], entry["Labels"]) for entry in stage.real.volumes()["Volumes"] or ())


def _networks(stage: Stage) -> Iterator[Named]:
    yield from ((entry["Name"], entry["Labels"]) for entry in stage.real.networks())


def _images(stage: Stage) -> Iterator[Named]:
    for entry in stage.real.images():
        for tag in entry["RepoTags"] or ():
            yield tag, entry["Labels"]
            yield tag.rpartition(":")[0], entry["Labels"]


KINDS = {"containers": _containers, "volumes": _volumes, "networks": _networks, "images": _images}


def _ours(stage: Stage, kind: str, found: Iterator[Named]) -> Iterator[str]:
    names = {made.name for made in stage.engine.made if made.kind == kind}
    for name, labels in found:
        instance = (labels or {}).get(INSTANCE)
        if instance.startswith(stage.instance) if instance else name in names:
            yield name


def _below(folder: str) -> Iterator[str]:
    for path, folders, files in os.walk(folder):
        yield from (os.path.join(path, name) for name in (*folders, *files))


def new_in(after: Belongings, before: Belongings, stage: Stage) -> list[str]:
    """What is there now and was not, each with the case during which the Engine made it."""
    made = {(one.kind, one.name): one.during for one in stage.engine.made}
    return [
        f"{kind}: {one} ({made.get((kind, one), 'during one of the cases')})"
        for kind, ones in after.items()
        for one in sorted(ones - before[kind])
    ]
