"""The snapshot index of an earlier server (`opensandbox-server` 1.1.1), read once to take its snapshots over."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from manager.domain.snapshot import Snapshot, SnapshotState
from manager.runtime.docker.snapshots import image_of

DEFAULT_PATH = "~/.opensandbox/opensandbox.db"
"""Where that server keeps its index unless told otherwise."""

_ROWS = """SELECT id, source_sandbox_id, name, state, reason, message, created_at, last_transition_at, restore_config
           FROM snapshots"""

_logger = logging.getLogger(__name__)


def earlier_snapshots(place: str = DEFAULT_PATH) -> list[Snapshot]:
    """Every snapshot the file knows; none when there is no such file or it is something else. Writes nothing.

    An image that is not named is the one that this server would have made.
    """
    path = Path(place).expanduser()
    if not path.is_file():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return [_decode(row) for row in connection.execute(_ROWS)]
    except (sqlite3.Error, ValueError) as error:
        _logger.warning("the snapshots in %s cannot be taken over: %s", path, error)
        return []


def _decode(row: tuple[str, ...]) -> Snapshot:
    snapshot_id, sandbox_id, name, state, reason, message, created, transition, restore = row
    return Snapshot(
        id=snapshot_id,
        sandbox_id=sandbox_id,
        name=name,
        state=SnapshotState(state),
        reason=reason,
        message=message,
        created_at=_moment(created),
        last_transition_at=_moment(transition) if transition else None,
        image=_image(restore) or image_of(snapshot_id),
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _image(restore: str) -> str:
    image = json.loads(restore).get("image") if restore else None
    return image if isinstance(image, str) else ""
