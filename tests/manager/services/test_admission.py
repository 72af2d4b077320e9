"""Admission: what a request may ask for depends on what the runtime says that it offers."""

from __future__ import annotations

from typing import Any

import pytest

from manager.domain.codes import Codes
from manager.domain.errors import Invalid
from manager.runtime.base import Feature
from manager.services.admission import admit
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import START, settings_of, wish

FEATURES = [({"lifecycle_hooks": True}, Feature.LIFECYCLE_HOOKS), ({"template_id": "t"}, Feature.TEMPLATES)]


@pytest.mark.parametrize(("changes", "feature"), FEATURES)
def test_a_feature_is_refused_unless_it_is_offered(changes: dict[str, Any], feature: Feature) -> None:
    """The runtime says what it can do, not its name."""
    runtime, request = FakeRuntime(), wish(**changes)
    with pytest.raises(Invalid, match="not available with this runtime"):
        admit(request, settings_of(), runtime, Codes("docker"), START)
    runtime.features = frozenset({feature})
    assert admit(request, settings_of(), runtime, Codes("docker"), START) == request


def test_the_runtime_knows_its_pools() -> None:
    """A pool is one that the runtime has; a sandbox of it needs no entrypoint."""
    runtime, request = FakeRuntime(), wish(extensions={"poolRef": "warm"}, entrypoint=())
    with pytest.raises(Invalid, match="no pool called 'warm'"):
        admit(request, settings_of(), runtime, Codes("docker"), START)
    runtime.pools = frozenset({"warm"})
    assert admit(request, settings_of(), runtime, Codes("docker"), START).entrypoint == ()
