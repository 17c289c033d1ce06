"""What the two servers have in common: start, stop, kill, and start again on the same data and address."""

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

READY_SECONDS = 60.0  # recovery after a crash included
REVIVE_SECONDS = 1.0  # what ended it may need a moment to pass
ENDS, ENDS_SECONDS = 5, 60.0  # a server that ends more often than this is not worth another start
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}  # a server must not depend on who starts it
MAX_SOCKET_PATH = 100  # bytes; the kernels allow 103 (macOS) or 107 (Linux)


class Server(abc.ABC):
    """A server on data of its own. A context manager: started on entry, stopped on exit.

    `data_dir` is made when missing, log and lock lie beside it. `socket_dir` must exist and have a short path.
    With `durable=False` a crash of the machine may lose data (tests).
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
        """Where clients find it; the same after a restart."""

    @property
    def process(self) -> Supervised:
        """The running server. Raises StartError when it was not started."""
        if self._process is None:
            raise StartError(f"{self.name} is not running")
        return self._process

    @property
    def pid(self) -> int:
        """Of the server itself, not of its guard."""
        return self.process.pid

    def start(self) -> None:
        """Returns when it answers; one that runs is stopped first. Raises StartError."""
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
        """Whether it had ended by itself; then it was started again in its place. Raises StartError when that fails."""
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
        """Ends it in its own orderly way. Fine when it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL). Fine when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    @abc.abstractmethod
    def _program(self, output: int, lock: int) -> Program:
        """What to run on data that is ready for it; `output` and `lock` are descriptors for it."""

    @abc.abstractmethod
    def _ready(self) -> bool:
        """Whether it answers by now."""

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self.process.exit_code() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartError(f"{self.name} did not start: {self.last_words()} (log: {self.log})")
            self._pause(POLL_SECONDS)

    def last_words(self) -> str:
        """Why it ended, as far as its log since the last start tells."""
        lines: list[str] = []
        with suppress(FileNotFoundError), self.log.open(errors="replace") as log:  # somebody may have removed it
            log.seek(self._log_start)
            lines = [line.strip() for line in log if line.strip()]
        fatal = [line for line in lines if " FATAL: " in line]  # PostgreSQL's; Valkey's reason is its last line
        return (fatal or lines or ["it says nothing"])[-1]

    def _socket_path(self, path: Path) -> Path:
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise StartError(f"{path} is too long for a unix socket: at most {MAX_SOCKET_PATH} bytes")
        return path
