"""Common to both servers: start, stop, kill, and restart on the same data and address."""

from __future__ import annotations

import abc
import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Self

from devstack.errors import StartError
from devstack.processes.supervised import POLL_SECONDS, Pause, Program, Supervised
from devstack.servers.data_lock import Lock
from devstack.terminal import complain

READY_SECONDS = 60.0  # includes recovery after a crash
REVIVE_SECONDS = 1.0  # the cause of the end may take a moment to pass
ENDS, ENDS_SECONDS = 5, 60.0  # a server that ends more often than this is not restarted
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}  # a server must not depend on its caller's environment
MAX_SOCKET_PATH = 100  # bytes; the kernels allow 103 (macOS) or 107 (Linux)


class Server(abc.ABC):
    """A server with its own data. A context manager: started on entry, stopped on exit.

    `data_dir` is created if missing; log and lock lie beside it. `socket_dir` must exist and have a short path. With
    `durable=False`, a crash of the machine may lose data (tests).
    """

    name: str

    def __init__(self, *, data_dir: Path, socket_dir: Path, durable: bool = True, pause: Pause = time.sleep) -> None:
        self.data_dir = data_dir.absolute()
        self.socket_dir = socket_dir.absolute()
        self.log = self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._durable = durable
        self._pause = pause
        self._process: Supervised | None = None
        self._log_start = 0
        self._ends = deque[float](maxlen=ENDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """The server's URL, which a restart does not change."""

    @property
    def process(self) -> Supervised:
        """The running server. Raises StartError if it was not started."""
        if self._process is None:
            raise StartError(f"{self.name} is not running")
        return self._process

    @property
    def pid(self) -> int:
        """The pid of the server, not of its guard."""
        return self.process.pid

    def start(self) -> None:
        """Returns when the server answers; a running one is stopped first. Raises StartError."""
        self.stop()
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.data_dir.with_name(f"{self.data_dir.name}.lock"))
        try:
            lock.take(self._pause)
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                self._process = Supervised(self._program(log.fileno(), lock.descriptor), self._pause)
        finally:
            lock.close()
        self._wait_until_ready()

    def revive(self) -> bool:
        """Restarts a server that ended by itself, and returns whether it had. Raises StartError if that fails."""
        if (code := self.process.exit_code()) is None:
            return False
        how, words = f"{self.name} ended by itself (exit {code})", f"last words: {self.last_words()} (log: {self.log})"
        now = time.monotonic()
        if len(self._ends) == ENDS and now - self._ends[0] < ENDS_SECONDS:
            raise StartError(f"{how}, more than {ENDS} times within a minute; {words}")
        self._ends.append(now)
        complain(f"{how} and is started again; {words}")
        self._pause(REVIVE_SECONDS)
        self.start()
        return True

    def stop(self) -> None:
        """Stops the server in order. Safe if it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL). Safe if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    @abc.abstractmethod
    def _program(self, output: int, lock: int) -> Program:
        """Prepares the data and returns the command; `output` and `lock` are its descriptors."""

    @abc.abstractmethod
    def _ready(self) -> bool:
        """Returns whether the server answers now."""

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self.process.exit_code() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartError(f"{self.name} did not start: {self.last_words()} (log: {self.log})")
            self._pause(POLL_SECONDS)

    def last_words(self) -> str:
        """Returns why the server ended, as far as its log since the last start shows."""
        lines: list[str] = []
        with suppress(FileNotFoundError), self.log.open(errors="replace") as log:  # the file may have been removed
            log.seek(self._log_start)
            lines = [line.strip() for line in log if line.strip()]
        fatal = [line for line in lines if " FATAL: " in line]  # PostgreSQL's reason; Valkey's is its last line
        return (fatal or lines or ["it says nothing"])[-1]

    def _socket_path(self, path: Path) -> Path:
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise StartError(f"{path} is too long for a unix socket: at most {MAX_SOCKET_PATH} bytes")
        return path
