"""The service itself: database migrations, then gunicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2

from devstack.errors import StartError
from devstack.processes.supervised import Pause, Program, Supervised
from devstack.terminal import complain

ROOT = Path(__file__).resolve().parents[1]
COMMAND_SECONDS = 300.0
READY_SECONDS = 60.0
CONNECT_SECONDS = 3
STOP_SECONDS = 30.0  # beyond the drain: gunicorn's graceful_timeout, and a margin


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """Runs parts of the service. `keeps` and `guard_holds` as in Program."""

    environment: Mapping[str, str]
    keeps: tuple[int, ...]
    guard_holds: tuple[int, ...]
    pause: Pause

    def run(self, *words: str) -> None:
        """Runs `flask --app wsgi …` to its end. On failure it shows the output and raises StartError."""
        with tempfile.TemporaryFile() as output:
            program = self._program("flask", "--app", "wsgi", *words)
            process = Supervised(dataclasses.replace(program, output=output.fileno()), self.pause)
            try:
                code = process.wait(COMMAND_SECONDS)
            finally:
                process.stop()
            if code != 0:
                output.seek(0)
                complain(output.read().decode(errors="replace").rstrip())
                raise StartError(
                    f"flask {' '.join(words)} failed ({'it did not end in time' if code is None else f'exit {code}'})"
                )

    def serve(self) -> Supervised:
        """Starts gunicorn, which reads ./gunicorn.conf.py."""
        return Supervised(self._program("gunicorn", "wsgi:app"), self.pause)

    def _program(self, module: str, *arguments: str) -> Program:
        return Program(
            name=module,
            argv=(sys.executable, "-m", module, *arguments),
            stop_signal=signal.SIGINT,  # after a kill of this process: finish requests in flight, do not drain
            grace_seconds=STOP_SECONDS,
            environment=self.environment,
            directory=ROOT,
            keeps=self.keeps,
            guard_holds=self.guard_holds,
        )


def wait_until_live(gunicorn: Supervised, *, host: str, port: int, pause: Pause) -> None:
    """Returns when /livez answers. Raises StartError if gunicorn ends or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not _live(host, port):
        if (code := gunicorn.exit_code()) is not None:
            raise StartError(f"gunicorn did not start (exit {code})")
        if time.monotonic() > deadline:
            raise StartError(f"gunicorn did not answer /livez within {READY_SECONDS:g} seconds")
        pause(0.1)


def why_unreachable(database_url: str) -> str | None:
    """Returns the first line of the connection error; None if the database accepts connections."""
    dsn = urlsplit(database_url)._replace(scheme="postgresql").geturl()  # libpq does not know `postgresql+psycopg2`
    try:
        psycopg2.connect(dsn, connect_timeout=CONNECT_SECONDS).close()
    except psycopg2.OperationalError as error:
        return str(error).strip().partition("\n")[0]
    except psycopg2.ProgrammingError:
        return None  # a URL that only SQLAlchemy understands: the migrations will report errors
    return None


def _live(host: str, port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=2)) as connection:
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
