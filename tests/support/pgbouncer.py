"""The real PgBouncer in front of a database."""

from __future__ import annotations

import secrets
import time
from contextlib import closing
from typing import Self
from urllib.parse import parse_qs, urlsplit

import psycopg2

from devstack import Postgres
from devstack.processes.supervised import Program, Supervised
from tests.support.front import program
from tests.support.node import free_port

START_SECONDS = 20


class PgBouncer:
    """With its default settings but for `mode` (session or transaction) and places, from entry to exit.

    `url` is that of the same database through it.
    """

    def __init__(self, postgres: Postgres, database_url: str, mode: str) -> None:
        parts = urlsplit(database_url)
        where = {name: value for name, [value] in parse_qs(parts.query).items()}
        database, port = parts.path.removeprefix("/"), free_port()
        self.url = f"postgresql://anybody@127.0.0.1:{port}/{database}"
        # It refuses to run as root, as PostgreSQL does: it runs as that, in a place that anybody can enter.
        directory = postgres.socket_dir / secrets.token_hex(4)
        directory.mkdir()
        directory.chmod(0o755)
        configuration, self._log = directory / "pgbouncer.ini", directory / "pgbouncer.log"
        configuration.write_text(
            f"""
[databases]
{database} = host={where["host"]} port={where["port"]} user={parts.username} password={parts.password}
[pgbouncer]
pool_mode = {mode}
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
"""
        )
        configuration.chmod(0o644)
        self._identity, self._argv = postgres.home.identity, (program("pgbouncer"), str(configuration))

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._running = Supervised(
                Program(name="PgBouncer", argv=self._argv, identity=self._identity, output=output.fileno())
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._running.exit_code() is None:
            try:
                with closing(psycopg2.connect(self.url, connect_timeout=2)):
                    return self
            except psycopg2.OperationalError:
                time.sleep(0.05)
        self._running.kill()
        raise AssertionError(f"PgBouncer did not start:\n{self._log.read_text()}")

    def __exit__(self, *_: object) -> None:
        self._running.stop()
