"""All parts of one run, from DATA_DIR to gunicorn."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from app.config import Settings
from devstack import address
from devstack.admin_key import admin_key
from devstack.errors import StartError
from devstack.processes.supervised import Pause, Supervised
from devstack.run_lock import locked_data_dir, record_servers
from devstack.servers.data_lock import Lock
from devstack.servers.postgres import Postgres
from devstack.servers.server import Server
from devstack.servers.valkey import Valkey
from devstack.service import STOP_SECONDS, Service, wait_until_live, why_unreachable
from devstack.terminal import complain, say


class Stack:
    """Starts parts in the order of their dependencies, and stops them in reverse."""

    def __init__(self, settings: Settings, pause: Pause) -> None:
        self._settings = settings
        self._pause = pause
        self._claim = ExitStack()
        self._servers: list[Server] = []
        self._gunicorn: Supervised | None = None
        self._live = False

    def start(self) -> None:
        """Returns when the service answers. Raises StartError; the caller must then `stop` the started parts."""
        settings = self._settings
        lock, sockets = self._claim.enter_context(locked_data_dir(settings.data_dir, self._pause))
        address.check_address(settings.bind, settings.port)
        environment = os.environ | {"DATA_DIR": str(settings.data_dir)}
        environment.setdefault("PROMETHEUS_MULTIPROC_DIR", str(_made(sockets / "metrics")))
        servers = self._valkey(sockets) | self._postgres(sockets)
        record_servers(lock, sockets, servers=servers)
        environment |= servers | self._admin_key()
        service = self._service(environment, lock)
        self._prepare_database(service)
        self._gunicorn = service.serve()
        host = address.reachable_host(settings.bind)
        wait_until_live(self._gunicorn, host=host, port=settings.port, pause=self._pause)
        self._live = True
        say(f"the interface, to read and try: {address.url(settings.bind, settings.port)}/docs")
        say(f"serving on {address.url(settings.bind, settings.port)} (Ctrl-C stops everything)")

    def check(self) -> None:
        """Restarts servers that ended by themselves. Raises StartError if that fails, or if gunicorn ended."""
        for server in self._servers:
            if server.revive() and self._gunicorn is not None:
                self._gunicorn.hold(*self._channels())
        if self._gunicorn is not None and (code := self._gunicorn.exit_code()) is not None:
            raise StartError(f"gunicorn ended by itself (exit {code})")

    def stop(self, number: int) -> None:
        """Passes the signal on to gunicorn, lets it finish, then stops the servers."""
        if self._gunicorn is not None:
            # SIGINT before gunicorn has its own handlers would only print a traceback.
            self._gunicorn.send(number if self._live else signal.SIGTERM)
            if self._gunicorn.wait(self._settings.drain_seconds + STOP_SECONDS) is None:
                complain("gunicorn does not stop: killing it")
            self._gunicorn.kill()
        for server in reversed(self._servers):
            server.stop()
        self._claim.close()

    def kill(self) -> None:
        """Ends all parts at once."""
        if self._gunicorn is not None:
            self._gunicorn.kill()
        for server in self._servers:
            server.kill()
        self._claim.close()

    def _valkey(self, sockets: Path) -> dict[str, str]:
        if not self._settings.redis_embedded:
            return {}
        data_dir = self._settings.data_dir / "valkey"
        valkey = Valkey(data_dir=data_dir, socket_dir=sockets, pause=self._pause)
        self._start(valkey)
        say(f"Valkey: data in {data_dir}")
        return {"REDIS_URL": valkey.url}

    def _postgres(self, sockets: Path) -> dict[str, str]:
        if self._settings.database_url is not None:
            return {}
        if self._settings.migration_database_url is not None:
            raise StartError("MIGRATION_DATABASE_URL is set, so DATABASE_URL must be set too")
        postgres = Postgres(data_dir=self._settings.data_dir / "postgres", socket_dir=sockets, pause=self._pause)
        self._start(postgres)
        as_whom = " (runs as nobody)" if postgres.home.identity.kind == "user" else ""
        say(f"PostgreSQL: data in {postgres.home.data}{as_whom}")
        return {"DATABASE_URL": postgres.url}

    def _start(self, server: Server) -> None:
        self._servers.append(server)
        server.start()

    def _admin_key(self) -> dict[str, str]:
        if self._settings.admin_api_key is not None:
            return {}
        path = self._settings.data_dir / "admin.key"
        key = admin_key(path)
        say(f"admin key: in {path}")
        return {"ADMIN_API_KEY": key}

    def _service(self, environment: dict[str, str], lock: Lock) -> Service:
        """Makes the service hold the lock, so that the next run waits for it.

        Its guard keeps the servers running until it ends.
        """
        return Service(
            environment=environment,
            keeps=(lock.descriptor,),
            guard_holds=self._channels(),
            pause=self._pause,
        )

    def _channels(self) -> tuple[int, ...]:
        return tuple(server.process.channel for server in self._servers)

    def _prepare_database(self, service: Service) -> None:
        given = self._settings.migration_database_url or self._settings.database_url
        if given is not None and (why := why_unreachable(given)) is not None:
            complain(f"warning: no migrations, serving without the database of DATABASE_URL: {why}")
            return
        service.run("db", "upgrade")
        service.run("rules", "load-examples")


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    return directory
