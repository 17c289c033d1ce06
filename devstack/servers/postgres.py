"""PostgreSQL from a wheel."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2

from devstack.errors import StartError
from devstack.processes.supervised import Pause, Program
from devstack.processes.unprivileged import Home, find_home
from devstack.servers.pgdata import USER, is_made, make_pgdata, password_of
from devstack.servers.server import ENVIRONMENT, Server

DATABASE = "ratelimiter"
PORT = 5432  # unused by TCP, but part of the socket's name
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
CONNECT_SECONDS = 2  # the minimum of libpq


class Postgres(Server):
    """A PostgreSQL on a unix socket, with one user, a random password and an empty database `ratelimiter`.

    `options` are further settings by their names in postgresql.conf.
    """

    name = "PostgreSQL"

    def __init__(
        self,
        *,
        data_dir: Path,
        socket_dir: Path,
        durable: bool = True,
        options: Mapping[str, str] | None = None,
        pause: Pause = time.sleep,
    ) -> None:
        super().__init__(data_dir=data_dir, socket_dir=socket_dir, durable=durable, pause=pause)
        self._options = ({} if durable else NOT_DURABLE) | dict(options or {})
        self._sockets = self.socket_dir / "pg"
        self._socket_path(self._sockets / f".s.PGSQL.{PORT}.lock")
        self._home: Home | None = None

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Returns the URL of another database of this server."""
        password = password_of(self.home)
        return f"postgresql://{USER}:{password}@/{quote(database)}?host={quote(os.fspath(self._sockets))}&port={PORT}"

    @property
    def home(self) -> Home:
        """The server's place and user. Raises StartError before the first start."""
        if self._home is None:
            raise StartError(f"{self.name} is not running")
        return self._home

    def _program(self, output: int, lock: int) -> Program:
        home = self._home = find_home(self.data_dir, self._pause)
        program = functools.partial(
            Program, identity=home.identity, environment=ENVIRONMENT, output=output, keeps=(lock,)
        )
        if not is_made(home):
            make_pgdata(home, durable=self._durable, program=program, pause=self._pause)
        # The server and all its processes hold the lock, which we have. So that pid belongs to another program now.
        (home.data / "cluster" / "postmaster.pid").unlink(missing_ok=True)
        self._make_socket_directory(home)
        return self._server(home, program)

    def _server(self, home: Home, program: Callable[..., Program]) -> Program:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": os.fspath(self._sockets),
            "port": str(PORT),
            "log_checkpoints": "off",
        } | self._options
        return program(
            name=self.name,
            argv=(
                str(home.programs / "postgres"),
                *("-D", str(home.data / "cluster")),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ),
            stop_signal=signal.SIGINT,  # "fast" shutdown: ends sessions and shuts down in order
            grace_seconds=30.0,
        )

    def _make_socket_directory(self, home: Home) -> None:
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        if home.identity.kind == "user":
            os.chown(self._sockets, home.identity.uid, home.identity.gid)

    def _ready(self) -> bool:
        """Returns whether the server accepts connections; creates a missing database."""
        try:
            with closing(psycopg2.connect(self.url_of("postgres"), connect_timeout=CONNECT_SECONDS)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.rowcount == 0:
                        cursor.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg2.OperationalError:
            return False
        return True
