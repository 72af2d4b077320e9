"""Every code the product can answer is in the catalogue, and the documentation says the same."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tests.refusals import on_creates, on_sandboxes, on_server, on_snapshots, on_volumes, test_told_elsewhere
from tests.refusals.catalogue import CASES, NEVER
from tests.refusals.source import codes

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
CATALOGUE = (on_creates, on_sandboxes, on_server, on_snapshots, on_volumes)
ROW = re.compile(r"^\| (\d{3}(?:, \d{3})*) \| `([A-Z_:]+)` \|", re.MULTILINE)
TOLD = vars(test_told_elsewhere).items()
KNOWN = {
    "DOCKER": (
        "INITIALIZATION_ERROR SANDBOX_QUERY_FAILED SANDBOX_NOT_FOUND SANDBOX_IMAGE_PULL_FAILED SANDBOX_START_FAILED "
        "SANDBOX_EXECD_START_FAILED SANDBOX_EXECD_DISTRIBUTION_FAILED SANDBOX_BOOTSTRAP_INSTALL_FAILED "
        "SANDBOX_DELETE_FAILED SANDBOX_NOT_RUNNING SANDBOX_PAUSE_FAILED SANDBOX_NOT_PAUSED SANDBOX_RESUME_FAILED "
        "INVALID_EXPIRATION INVALID_ENTRYPOINT INVALID_PORT NETWORK_MODE_ENDPOINT_UNAVAILABLE "
        "SNAPSHOT_IMAGE_REMOVE_FAILED EXPIRATION_NOT_EXTENDED"
    ),
    "SNAPSHOT": (
        "NOT_FOUND NOT_READY INVALID_RESTORE_CONFIG INVALID_SOURCE_STATE INVALID_STATE NOT_IMPLEMENTED "
        "UNSUPPORTED_RUNTIME RUNTIME_PREFLIGHT_FAILED RUNTIME_CREATE_CONFLICT RUNTIME_CREATE_FAILED DELETE_CONFLICT"
    ),
    "VOLUME": (
        "INVALID_NAME DUPLICATE_NAME INVALID_BACKEND INVALID_MOUNT_PATH INVALID_SUB_PATH INVALID_HOST_PATH "
        "HOST_PATH_NOT_ALLOWED INVALID_PVC_NAME PVC_NOT_FOUND PVC_SUBPATH_UNSUPPORTED_DRIVER INVALID_OSSFS_VERSION "
        "INVALID_OSSFS_ENDPOINT INVALID_OSSFS_BUCKET INVALID_OSSFS_OPTION INVALID_OSSFS_CREDENTIALS "
        "HOST_PATH_CREATE_FAILED PVC_INSPECT_FAILED INVALID_OSSFS_MOUNT_ROOT OSSFS_MOUNT_FAILED OSSFS_UNMOUNT_FAILED "
        "HOST_PATH_NOT_FOUND OSSFS_PATH_NOT_FOUND UNSUPPORTED_BACKEND"
    ),
}
"""Every code of these families that the released server declares."""
NEVER_ROW = re.compile(r"^\| `([A-Z_:]+)` \| ", re.MULTILINE)


def management() -> str:
    """The part of the page that is about the management API."""
    return PAGE.read_text(encoding="utf-8").partition("\n# ")[2]


def test_every_code_has_a_case() -> None:
    """A code that is added to the source without a case in the catalogue fails here."""
    assert codes() - set(NEVER) == {refused.code for refused in CASES}


def test_every_code_that_is_never_answered_is_told_elsewhere() -> None:
    """Such a code has a test of where it is told, which begins with it."""
    told = {str(test.__doc__).partition(": ")[0] for name, test in TOLD if name.startswith("test_")}
    assert told == set(NEVER)
    assert set(NEVER) <= codes()


def test_cases_have_names_of_their_own() -> None:
    """A test is found by the name of its case."""
    names = [refused.name for refused in CASES]
    assert len(set(names)) == len(names)


def test_the_page_lists_every_answer() -> None:
    """The statuses and codes of the page are those of the catalogue."""
    statuses = defaultdict(set)
    for refused in CASES:
        statuses[refused.code].add(refused.status)
    listed = {code: {int(status) for status in found.split(", ")} for found, code in ROW.findall(management())}
    assert listed == dict(statuses)


def test_the_page_says_what_is_never_answered() -> None:
    """Ours that are told elsewhere, and those of the released server whose cause does not exist here."""
    never = set(NEVER_ROW.findall(management()))
    assert set(NEVER) <= never
    assert not never & {refused.code for refused in CASES}


def test_every_code_of_the_released_server_is_answered_or_explained() -> None:
    """A client of it that waits for one finds it on the page: as an answer, or with the reason why it never comes."""
    known = {f"{family}::{name}" for family, names in KNOWN.items() for name in names.split()}
    listed = {code for _, code in ROW.findall(management())} | set(NEVER_ROW.findall(management()))
    assert known - listed == set()
