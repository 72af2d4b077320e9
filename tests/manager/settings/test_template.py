"""What init-config writes: loadable files, made from the model."""

from __future__ import annotations

import re
import stat
import tomllib
from functools import reduce
from pathlib import Path

import pytest

from manager.settings.aliases import SPELLINGS
from manager.settings.examples import EXAMPLES
from manager.settings.exposure import is_open
from manager.settings.generate import generated, main, stale
from manager.settings.load import load_settings
from manager.settings.model import Settings
from manager.settings.schema import sections
from manager.settings.template import render, skeleton, write_config
from manager.settings.unsupported import OFFERED, UNWIRED
from tests.manager.settings.conftest import Load
from tests.manager.settings.test_pages import EXAMPLES as PRINTED

ROOT = Path(__file__).parents[3]
RUNTIME = {"type": "docker", "execd_image": "execd"}
NOT_FOR_DOCKER = (
    "kubernetes",
    "agent_sandbox",
    "tenants",
    "ingress.gateway",
    "egress.upstream_proxy",
    "docker.registries",
    "docker.pools",
    "ingress.secure_access.keys",
    "server.api_keys",
)
"""Tables that a default cannot stand in: they need another runtime or mode, or an item of the operator's."""
FILLED = {'type = ""': 'type = "docker"', 'execd_image = ""': 'execd_image = "execd"'}


@pytest.mark.parametrize("name", OFFERED)
def test_an_example_is_written_to_be_started_with(tmp_path: Path, name: str) -> None:
    """As it is: with a key that nobody else has, for this machine only, and without a warning."""
    files = [tmp_path / "new" / place for place in ("a.toml", "b.toml")]
    for file in files:
        write_config(file, name, force=False)

    first, second = (load_settings(file, {}) for file in files)
    assert first.warnings == ()
    assert not is_open(first.settings)
    assert first.settings.server.host == "127.0.0.1"
    assert first.settings.server.api_key != second.settings.server.api_key


def test_the_skeleton_is_written_with_a_key_of_its_own(tmp_path: Path) -> None:
    """And lacks exactly what it asks to be filled in."""
    file = tmp_path / "sandbox.toml"
    write_config(file, None, force=False)
    text = file.read_text()
    for empty, filled in FILLED.items():
        text = text.replace(f"\n{empty}\n", f"\n{filled}\n", 1)
    file.write_text(text)

    loaded = load_settings(file, {})
    assert (loaded.warnings, is_open(loaded.settings), loaded.settings.server.host) == ((), False, "127.0.0.1")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_offered_where_its_runtime_is(name: str) -> None:
    """What this version would refuse is not written to start from."""
    assert (name in OFFERED) == (EXAMPLES[name].tables["runtime"]["type"] == "docker")


def test_the_docker_example_is_the_printed_one() -> None:
    """The same tables, keys and values, in the same order, as on the documentation page, but for what fails on Linux.

    `host.docker.internal` is a name of Docker Desktop, and an empty list of host paths allows all of them.
    """
    written, printed = tomllib.loads(render(EXAMPLES["docker"])), tomllib.loads(PRINTED[0])
    del written["storage"], printed["docker"]["host_ip"]

    assert written == printed
    assert [*written, *written["docker"]] == [*printed, *printed["docker"]]


def test_every_value_of_an_example_is_explained() -> None:
    """The sentence above a value is the model's own."""
    assert "# Port to listen on: the gateway and the REST API share it\nport = 8080\n" in render(EXAMPLES["docker"])


def test_the_skeleton_loads_once_its_two_keys_are_filled_in(load: Load) -> None:
    """Everything else in it is commented out."""
    text = skeleton()
    for empty, filled in FILLED.items():
        assert f"\n{empty}\n" in text
        text = text.replace(f"\n{empty}\n", f"\n{filled}\n", 1)

    assert (
        load(text, runtime="").settings == load(runtime='runtime = {type = "docker", execd_image = "execd"}').settings
    )


def test_the_skeleton_shows_defaults_that_load() -> None:
    """Taking the comment signs away changes nothing: what stands there are the defaults."""
    text = re.sub(r"^#(?! )", "", skeleton(), flags=re.MULTILINE)
    for empty, filled in FILLED.items():
        text = text.replace(f"\n{empty}", f"\n{filled}", 1)
    document = tomllib.loads(text)
    for path in NOT_FOR_DOCKER:
        *tables, name = path.split(".")
        del reduce(lambda table, part: table[part], tables, document)[name]

    assert Settings.model_validate(document) == Settings.model_validate({"runtime": RUNTIME})


def test_the_skeleton_and_the_page_name_every_key() -> None:
    """A key added to the model appears in both; another spelling is on the page only."""
    text, page = skeleton(), generated()["docs/configuration.md"]

    for section in sections(Settings):
        assert f".{section.path[-1]}" in f".{page}" or f"[{section.path[-1]}" in page
        for key in section.own_keys():
            assert f"| `{key.name}` |" in page
            assert (f"{key.name} = " in text) or key.path in SPELLINGS


def test_the_page_marks_what_is_not_wired() -> None:
    """Whoever reads about a key that keeps the server from starting is told so there."""
    page = generated()["docs/configuration.md"]

    assert page.count("**This version ") == len(UNWIRED)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    """Only force overwrites, and what is written is readable by its owner only."""
    file = tmp_path / "sandbox.toml"
    file.write_text("mine")

    with pytest.raises(FileExistsError):
        write_config(file, "docker", force=False)
    assert file.read_text() == "mine"
    write_config(file, "docker", force=True)
    assert "[docker]" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_generated_files_are_up_to_date() -> None:
    """The repository holds what the model says."""
    assert stale(ROOT) == []


def test_drift_is_found_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check changes nothing and returns 1; without it the files are written."""
    assert main(["--check"], tmp_path) == 1
    assert "config/docker.toml is out of date" in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert main(["--wrong"], tmp_path) == 2
