"""Files: where they are looked for, what a broken one says, and what its secrets never do."""

from __future__ import annotations

from pathlib import Path

import pytest

from manager.settings.load import ConfigError, find, load_settings
from manager.settings.model import Settings
from tests.manager.settings.conftest import Load, Refused

SECRET = "c2VjcmV0LWtleS1tYXRlcmlhbA"


@pytest.mark.parametrize(
    ("option", "environ", "expected"),
    [
        (None, {}, "~/.sandbox.toml"),
        (None, {"SANDBOX_CONFIG_PATH": "/etc/osb.toml"}, "/etc/osb.toml"),
        ("/opt/osb.toml", {"SANDBOX_CONFIG_PATH": "/etc/osb.toml"}, "/opt/osb.toml"),
        (None, {"SANDBOX_CONFIG_PATH": ""}, "~/.sandbox.toml"),
        ("~/x.toml", {}, "~/x.toml"),
    ],
)
def test_the_file_is_found(option: str | None, environ: dict[str, str], expected: str) -> None:
    """The option wins over the variable, which wins over the default; a tilde is the home directory."""
    assert find(option, environ) == Path(expected).expanduser()


MALFORMED = {
    "[server\nport = 1": "line 1, column 8: ",
    "[server]\nport = \n": "line 2, column 8: ",
    '[server]\nhost = "a"\nhost = "b"\n': "line 3, column ",
    '[server]\nhost = "a': "end of document: a string is not closed: its last quote is missing",
    '[server]\nhost = "a\nport = 1\n': "line 2, column 10: a string is not closed: its last quote is missing",
    "[server]\nhost = 'a\nport = 1\n": "end of document: a string is not closed: its last quote is missing",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_toml_names_its_place(refused: Refused, text: str) -> None:
    """What is not TOML is one line with line and column."""
    (line,) = refused(text, runtime="")

    assert line.startswith(MALFORMED[text])


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    """The message holds the command that makes the file."""
    file = tmp_path / "none.toml"

    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})

    assert caught.value.lines == (
        f"there is no such file; write one with: opensandbox-server init-config {file} --example docker",
    )


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """What cannot be read is one line with the system's reason."""
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, {})

    assert caught.value.lines == ("cannot be read: Is a directory",)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are named by their position."""
    file = tmp_path / "latin.toml"
    file.write_bytes(b"# caf\xe9\n[server]\nport = 1\n")

    with pytest.raises(ConfigError, match="is not UTF-8: byte 5"):
        load_settings(file, {})


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors begin a file with one."""
    file = tmp_path / "bom.toml"
    file.write_text('[runtime]\ntype = "docker"\nexecd_image = "execd"\n', encoding="utf-8-sig")

    assert load_settings(file, {}).settings.runtime.execd_image == "execd"


def test_the_two_required_keys_are_named(refused: Refused) -> None:
    """An empty file lacks exactly the two required keys."""
    assert refused(runtime="") == (
        'runtime.type: is required; it must be "docker" or "kubernetes"',
        'runtime.execd_image: is required; it must be an image reference such as "opensandbox/execd:latest"',
    )


def test_the_released_skeleton_is_told_as_that(tmp_path: Path) -> None:
    """It sets nothing at all: one line says so, instead of one for each key that must not be empty."""
    file = tmp_path / "sandbox.toml"
    file.write_text('[server]\nhost = ""\nport = ""\n[runtime]\ntype = ""\nexecd_image = ""\n[storage]\npaths = []\n')

    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})
    (line,) = caught.value.lines
    assert line.startswith("is the skeleton that the released opensandbox-server writes, in which every value is empty")


LEAKS = [
    f'[server]\napi_key = ["{SECRET}"]\n',
    f'[[ingress.secure_access.keys]]\nkey_id = "a"\nkey = "{SECRET}!!"\n',
    f'[ingress.secure_access]\nkeys = "{SECRET}"\n',
    f'[docker.sandbox_env]\nTOKEN = ["{SECRET}"]\n',
    f'[docker.registries."reg.example.com"]\nusername = "u"\npassword = ["{SECRET}"]\n',
    f'[egress]\nmode = "dns+nft"\n[egress.upstream_proxy]\nurl = "http://u:{SECRET}@proxy"\n',
    f'[store.postgresql]\ndsn = ["{SECRET}"]\n',
    f'[tenants]\nauth_token = ["{SECRET}"]\n',
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_refused_secret_is_not_shown(refused: Refused, text: str) -> None:
    """A value that is refused is quoted, unless it is a secret."""
    assert SECRET not in "\n".join(refused(text))


def test_a_loaded_secret_is_not_shown(load: Load) -> None:
    """Neither the text of the settings nor their dump as JSON holds a secret."""
    settings: Settings = load(f'[server]\napi_key = "{SECRET}"\n').settings

    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_settings_cannot_be_changed(load: Load) -> None:
    """What was checked at start stays as it was checked."""
    settings: Settings = load().settings

    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1
