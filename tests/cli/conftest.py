"""The commands of this source tree, on a database of their own and the suite's Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import Result

from app import create_app
from app.config import Settings
from app.embedded import Valkey


class Cli(Protocol):
    def __call__(self, *command: str, code: int = 0, stdin: str | None = None) -> Result: ...


@pytest.fixture(scope="session")
def cli(valkey: Valkey, new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Runs a command in this process; fails where it does not end with `code`."""
    handlers, level = logging.root.handlers[:], logging.root.level
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(tmp_path_factory.mktemp("cli"))
        environment.setenv("DATABASE_URL", new_database("cli"))
        environment.setenv("REDIS_URL", valkey.url)
        environment.setenv("REDIS_TIMEOUT_MS", "5000")
        environment.setenv("ENABLE_METRICS", "false")
        environment.setenv("LOG_LEVEL", "WARNING")
        environment.setenv("DATA_DIR", str(Path.cwd()))
        app = create_app(Settings.from_env())
    app.extensions["ratelimiter"].deleted_tenants._settle_seconds = 0  # no worker of a node decides here

    def run(*command: str, code: int = 0, stdin: str | None = None) -> Result:
        result = app.test_cli_runner().invoke(args=command, input=stdin)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    yield run
    for store in (app.extensions["ratelimiter"].store, app.extensions["ratelimiter"].deleted_tenants._store):
        store._link.drop()
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
