"""What a command refuses: one line, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import Cli, flask
from tests.support.node import ROOT


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("rules", "set", "a", "--rate", "0", "--window", "1"), "rate: Must be greater than or equal to 1"),
        (("rules", "set", "a"), "rate: Missing data for required field."),
        (("rules", "set", "a", "--limit", "1/1", "--rate", "2"), "limits: Give either"),
        (("rules", "set", "a", "--limit", "0/1"), "limits[0].rate: Must be greater"),
        (("rules", "list", "--tenant", "none"), "there is no tenant none"),
    ],
)
def test_a_refusal_is_one_line(cli: Cli, command: tuple[str, ...], told: str) -> None:
    output = cli(*command, code=1).output
    assert output.startswith(f"Error: {told}")
    assert output.count("\n") == 1


@pytest.mark.parametrize("limit", ["1", "1/x", "1/1/gcra/3/4", "/", "1/1/gcra/x"])
def test_a_limit_that_cannot_be_read_is_a_usage_error(cli: Cli, limit: str) -> None:
    assert "RATE/WINDOW" in cli("rules", "set", "a", "--limit", limit, code=2).output


@pytest.mark.parametrize(
    ("command", "environment", "told"),
    [
        (("rules", "list"), {}, "Error: DATABASE_URL is not set: allowed is postgresql://"),
        (("db", "upgrade"), {}, "DATABASE_URL is not set: allowed is postgresql://"),
        (("keys", "list"), {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "Error: the database: "),
        (("rules", "list"), {"DATABASE_URL": "mysql://x"}, "DATABASE_URL=mysql://x: allowed is "),
    ],
    ids=str,
)
def test_without_the_database_a_command_ends_with_one_line(
    command: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    run = flask(*command, **environment)
    assert run.returncode == 1
    assert run.stderr.startswith(told), run.stderr
    assert run.stderr.count("\n") == 1


def test_a_node_does_not_start_without_a_database() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("DATABASE_URL is not set")
