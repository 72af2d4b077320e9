"""What the repository promises about itself: versions agree, locks are pinned, nothing foreign is tracked."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "scripts" / "lock").glob("*.txt"))
CHANGELOG_VERSION = re.compile(r"^## \[(\d+\.\d+\.\d+)\]", re.MULTILINE)
PINNED = re.compile(r"^([a-z0-9_.-]+)==", re.MULTILINE | re.IGNORECASE)
NAME = re.compile(r"^[a-z0-9_.-]+", re.IGNORECASE)
VERBS = ("demo", "test", "lint", "check", "bench", "install", "engine", "packages")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
LARGEST_TEXT = 1_000_000
LONGEST_FILE = 700
LONGEST_SUBJECT = 72
SUBJECTS_SINCE = "aa0a076ea3ca3b4554b3e08514caec895e2d4987"  # the rule is younger than the first commits

# Spelled in two halves, so that this file does not name what it forbids.
FOREIGN = [
    first + second
    for first, second in (
        ("file:/", "/"),
        ("BEGIN RSA PRIV", "ATE KEY"),
    )
]


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked_texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    texts = {}
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < LARGEST_TEXT:
            texts[name] = path.read_text(errors="replace")
    return texts


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_heads_the_changelog() -> None:
    """The newest version in CHANGELOG.md is the one pyproject.toml declares."""
    versions = CHANGELOG_VERSION.findall((ROOT / "CHANGELOG.md").read_text())
    assert versions[:1] == [project()["project"]["version"]]  # type: ignore[index]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_is_pinned_by_hash_and_names_no_index(lock: Path) -> None:
    """Each requirement of a lock has an exact version and a hash, and no line is an address or an option."""
    text = lock.read_text()
    requirements = text.replace("\\\n", " ").splitlines()
    assert requirements
    assert [line for line in requirements if not PINNED.match(line) or "--hash=sha256:" not in line] == []
    assert "://" not in text


def test_locks_hold_every_dependency() -> None:
    """A dependency of pyproject.toml that no lock holds would be missing on a new machine."""
    declared = project()
    own = {path.stem for path in LOCKS}
    wanted = {"runtime": list(declared["project"]["dependencies"])}  # type: ignore[index]
    for name, group in declared["dependency-groups"].items():  # type: ignore[attr-defined]
        wanted.setdefault(name if name in own else "development", []).extend(group)
    for name, requirements in wanted.items():
        locked = {normalised(found) for found in PINNED.findall((ROOT / f"scripts/lock/{name}.txt").read_text())}
        asked = {normalised(match[0]) for text in requirements if (match := NAME.match(text))}
        assert asked <= locked, name


def test_nothing_foreign_is_tracked() -> None:
    """No tracked file names a package host, a path of somebody's machine or a private key."""
    found = [(name, word) for name, text in tracked_texts().items() for word in FOREIGN if word in text]
    assert found == []


def test_scripts_are_executable() -> None:
    """The verbs run as they are written in the README."""
    paths = [ROOT / ".ci/run", *(ROOT / "scripts" / verb for verb in VERBS)]
    assert [str(path) for path in paths if not path.stat().st_mode & 0o100] == []


def test_packages_come_before_the_tests_network() -> None:
    """The tests' own network has a way out only with a program that is one of those packages."""
    verbs = (ROOT / ".ci/run").read_text()
    assert verbs.index("\nscripts/packages\n") < verbs.index("exec .ci/new-engine")


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a Markdown file's headings; equal headings are numbered from the second on."""
    anchors: dict[str, int] = {}
    for title in HEADING.findall(FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub(r"\1", title).lower().strip()).replace(" ", "-")
        anchors[slug] = anchors.get(slug, -1) + 1
    return {f"{slug}-{number}" if number else slug for slug, last in anchors.items() for number in range(last + 1)}


def test_headings_become_anchors() -> None:
    """Anchors are made as GitHub makes them: lower case, without punctuation, numbered when they are repeated."""
    text = "# One, `two`: [three](four.md)\n\n## Again\n## Again\n```sh\n# no heading\n```\n"
    assert headings(text) == {"one-two-three", "again", "again-1"}


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of every Markdown file names a file that exists and, after `#`, a heading in it."""
    pages = {name: text for name, text in tracked_texts().items() if name.endswith(".md")}
    broken = []
    for name, text in pages.items():
        for _, target in LINK.findall(text):
            if "://" in target or target.startswith("mailto:"):
                continue
            file, _, anchor = target.partition("#")
            path = (ROOT / name).parent / file if file else ROOT / name
            known = path.exists() and (not anchor or anchor in headings(path.read_text()))
            broken += [] if known else [(name, target)]
    assert broken == []


def test_pages_that_are_mentioned_exist() -> None:
    """Code, messages and comments send people to pages that are there."""
    texts = tracked_texts()
    mentioned = {(name, page) for name, text in texts.items() for page in re.findall(r"\bdocs/[\w-]+\.md\b", text)}
    assert {(name, page) for name, page in mentioned if page not in texts} == set()
    assert mentioned


def test_every_page_is_listed() -> None:
    """docs/index.md leads to every page beside it."""
    index = (ROOT / "docs/index.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


def test_rooms_exist() -> None:
    """Every file and folder that CONTRIBUTING.md sends people to is there."""
    rooms = re.findall(
        r"`((?:gateway|manager|benchmarks|scripts|tests|docs)/[\w./-]*)`", tracked_texts()["CONTRIBUTING.md"]
    )
    assert [room for room in rooms if not (ROOT / room).exists()] == []
    assert rooms


def test_every_file_of_the_data_plane_is_described() -> None:
    """CONTRIBUTING.md has a row for each file of gateway/, so that a newcomer finds where a change goes."""
    texts = tracked_texts()
    files = {name for name in texts if re.fullmatch(r"gateway/.*(?<!__init__)\.py", name)}
    described = set(re.findall(r"^\| `(gateway/[\w/]+\.py)` \|", texts["CONTRIBUTING.md"], re.MULTILINE))
    assert files == described


def test_no_source_file_is_two() -> None:
    """A file past 700 lines is more than one idea; long before that it asks whether it is two."""
    long = {
        name: lines
        for name, text in tracked_texts().items()
        if name.endswith(".py") and (lines := text.count("\n")) > LONGEST_FILE
    }
    assert long == {}


def too_long(subjects: str) -> list[str]:
    return [subject for subject in subjects.splitlines() if len(subject) > LONGEST_SUBJECT]


def test_subjects_of_commits_are_short() -> None:
    """The subject of a commit has at most 72 characters; the why is in the body."""
    # Without that history (a shallow clone, an exported tree) git fails and prints nothing: there is nothing to check.
    git = ["git", "log", "--no-merges", "--format=%s", f"{SUBJECTS_SINCE}..HEAD"]
    assert too_long(subprocess.run(git, cwd=ROOT, capture_output=True, check=False).stdout.decode()) == []
    assert too_long(f"{'a' * 72}\n{'b' * 73}\n") == ["b" * 73]


def test_every_finding_is_listed_and_says_what_it_is() -> None:
    """A script of findings/ can be run, has a row in its README.md, and its head tells what it is about."""
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    listed = (ROOT / "findings/README.md").read_text()
    heads = ("Product", "Behaviour", "Output seen", "Guess before", "Why it matters", "Seen")
    assert scripts
    for path in scripts:
        text = path.read_text()
        assert path.stat().st_mode & 0o100, path.name
        assert f"]({path.name})" in listed, path.name
        assert [head for head in heads if f"\n# {head}: " not in text] == [], path.name
