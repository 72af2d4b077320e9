"""Host paths that are never mounted, where links change while they are followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manager.domain.errors import Invalid
from manager.runtime.docker.host.path_policy import HostRules, real_path


@contextmanager
def changing_at(look: int) -> Iterator[list[str]]:
    """Following links fails at this look, counted from 1, as it does when a link becomes a directory in that moment."""
    looked: list[str] = []
    follow = os.path.realpath

    def realpath(path: str) -> str:
        looked.append(path)
        if len(looked) == look:
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return follow(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os.path, "realpath", realpath)
        yield looked


def test_a_link_that_changes_at_any_look(tmp_path: Path) -> None:
    """The create is refused in words, whichever of the looks it was."""
    place, key = tmp_path / "place", tmp_path / "keys" / "key"
    place.mkdir()
    rules = HostRules((str(tmp_path),), (str(key), "/proc"), local=True, secrets=(str(key),))
    with changing_at(0) as looked:
        assert rules.real_path("data", str(place)) == str(place)
    assert len(looked) > 3
    for look in range(1, len(looked) + 1):
        with changing_at(look), pytest.raises(Invalid, match="changes while it is looked at"):
            rules.real_path("data", str(place))


def test_the_part_of_a_volume_too(tmp_path: Path) -> None:
    """Its path is followed by itself."""
    with changing_at(1), pytest.raises(Invalid, match="changes while"):
        real_path("data", str(tmp_path))
