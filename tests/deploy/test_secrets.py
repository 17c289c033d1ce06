"""`make secrets`: made once, and it says which of the two it found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.node import ROOT


def make_secrets(directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "deploy/make_secrets.py"), str(directory)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_secrets_are_made_once_and_it_is_said_which(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    first = make_secrets(directory)
    made = {file.name: file.read_text() for file in directory.iterdir()}
    assert (first.returncode, first.stdout) == (0, f"{directory}: made {', '.join(sorted(made))}\n")
    second = make_secrets(directory)
    assert (second.returncode, second.stdout) == (0, f"{directory}: all there already, nothing replaced\n")
    assert {file.name: file.read_text() for file in directory.iterdir()} == made


def test_half_a_set_is_left_alone(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    (tmp_path / "secrets" / "redis_users").unlink()
    again = make_secrets(tmp_path / "secrets")
    assert again.returncode == 1
    assert again.stderr.endswith("secrets lacks redis_users: passwords in use are not replaced\n")
    assert not (tmp_path / "secrets" / "redis_users").exists()
