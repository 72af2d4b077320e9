"""Files the configuration names are looked at before anything starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from manager.settings.files import unusable_files
from manager.settings.model import Settings


def _pair(folder: Path, name: str) -> dict[str, str]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return {"certificate": str(certificate), "key": str(key)}


def _problems(**tls: str) -> list[str]:
    runtime = {"type": "docker", "execd_image": "execd"}
    return [
        str(problem)
        for problem in unusable_files(Settings.model_validate({"runtime": runtime, "server": {"tls": tls}}))
    ]


def test_no_files_are_no_problem() -> None:
    """Plain HTTP needs none."""
    assert _problems() == []


def test_a_pair_can_be_used(tmp_path: Path) -> None:
    """A certificate with its own key."""
    assert _problems(**_pair(tmp_path, "a")) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Each file by its key, with the system's reason."""
    pair = {**_pair(tmp_path, "a"), "key": "/none/a.key"}

    assert _problems(**pair) == ['server.tls.key = "/none/a.key": cannot be read: No such file or directory']


def test_a_strangers_key_is_refused(tmp_path: Path) -> None:
    """Every handshake would fail with it."""
    one, other = _pair(tmp_path, "a"), _pair(tmp_path, "b")
    (line,) = _problems(certificate=one["certificate"], key=other["key"])

    assert "cannot be used with server.tls.key: KEY_VALUES_MISMATCH" in line


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_what_is_no_certificate_is_refused(tmp_path: Path, text: str) -> None:
    """One line, no trace."""
    pair = _pair(tmp_path, "a")
    Path(pair["certificate"]).write_text(text)
    (line,) = _problems(**pair)

    assert line.startswith(f'server.tls.certificate = "{pair["certificate"]}": cannot be used with server.tls.key')
