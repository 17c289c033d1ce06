"""Gives a data directory one owner at a time, even after a crash."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from devstack.errors import StartError
from devstack.processes.supervised import POLL_SECONDS, Pause

LEFTOVERS_SECONDS = 30.0  # for the guards of a crashed run to stop their programs


class Lock:
    """A lock file, held until every process that inherited its descriptor has ended, so it is never stale."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Releases the lock here; programs that inherited the descriptor still hold it."""
        os.close(self.descriptor)

    def taken(self) -> bool:
        """Takes the lock without waiting; returns False if another process has it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self, pause: Pause = time.sleep, give_up: Callable[[], None] = lambda: None) -> None:
        """Takes the lock after the remains of a crash have ended. Raises StartError if they do not end.

        `give_up` is called before each wait; it may raise.
        """
        deadline = time.monotonic() + LEFTOVERS_SECONDS
        while not self.taken():
            give_up()
            if time.monotonic() > deadline:
                raise StartError(f"{self.path} is still held by a process that was started earlier")
            pause(POLL_SECONDS)

    def read(self) -> str:
        """Returns the text of the last holder."""
        return os.pread(self.descriptor, 4096, 0).decode(errors="replace")

    def write(self, text: str) -> None:
        """Leaves a text for later holders."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)
