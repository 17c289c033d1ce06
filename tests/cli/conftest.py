"""The commands of this source tree, on a database of their own and the suite's Redis."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from uuid import uuid4

import pytest
from click.testing import Result

from app import create_app
from app.config import Settings
from devstack import Valkey
from tests.support.node import ROOT


class Cli(Protocol):
    def __call__(
        self, *command: str, code: int = 0, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> Result: ...


class AtTerminal(Protocol):
    def __call__(self, *command: str, answer: str, while_asked: Callable[[], None] = ...) -> tuple[int, str]: ...


@pytest.fixture(scope="session")
def environment(
    valkey: Valkey, new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Of the commands."""
    return {
        "DATABASE_URL": new_database("cli"),
        "REDIS_URL": valkey.url,
        "REDIS_TIMEOUT_MS": "5000",
        "ENABLE_METRICS": "false",
        "LOG_LEVEL": "WARNING",
        "DATA_DIR": str(tmp_path_factory.mktemp("cli")),
    }


@pytest.fixture(scope="session")
def at_terminal(environment: dict[str, str]) -> AtTerminal:
    """Runs a command whose input is a terminal, at which somebody answers; its exit code and what stands there then.

    `while_asked` runs once the question is there.
    """

    def run(*command: str, answer: str, while_asked: Callable[[], None] = lambda: None) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "flask", "--app", "wsgi", *command]
        own = {"PATH": os.environ["PATH"]} | environment
        said = b""
        try:
            with subprocess.Popen(
                words, cwd=ROOT, env=own, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                assert process.stdout is not None
                timer = threading.Timer(60, process.kill)
                timer.start()
                while b"[y/N]" not in said and (part := process.stdout.read1()):  # type: ignore[attr-defined]
                    said += part
                while_asked()
                os.write(ours, answer.encode())
                said += process.stdout.read()
                timer.cancel()
        finally:
            os.close(ours)
            os.close(theirs)
        return process.returncode, said.decode()

    return run


@pytest.fixture(scope="session")
def cli(environment: dict[str, str]) -> Iterator[Cli]:
    """Runs a command in this process; fails where it does not end with `code`."""
    handlers, level = logging.root.handlers[:], logging.root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(environment["DATA_DIR"])
        for name, value in environment.items():
            patch.setenv(name, value)
        app = create_app(Settings.from_env())
    app.extensions["commands"].settle_seconds = 0  # no worker of a node decides here

    def run(*command: str, code: int = 0, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
        result = app.test_cli_runner().invoke(args=command, input=stdin, env=env)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def client() -> str:
    """A client id, or a tenant's name, of the test's own."""
    return f"cli-{uuid4().hex[:10]}"


def json_of(cli: Cli, *command: str) -> Any:
    return json.loads(cli(*command, "--json").stdout)


def flask(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with these settings and no others."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
