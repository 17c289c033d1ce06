"""One owner at a time for a directory of data, also when the last one crashed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from devstack.errors import StartError
from devstack.processes.supervised import POLL_SECONDS, Pause

LEFTOVERS_SECONDS = 30.0  # how long the guards of a crashed run may take to stop what they guard


class Lock:
    """A lock file, held until every process that inherited its descriptor has ended: there is no stale lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Lets go of it here; programs that were started with the descriptor still hold it."""
        os.close(self.descriptor)

    def taken(self) -> bool:
        """Takes it without waiting; False when somebody else has it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self, pause: Pause = time.sleep, give_up: Callable[[], None] = lambda: None) -> None:
        """Takes it, waiting for what a crash left behind. Raises StartError when that does not end.

        `give_up` is asked before each wait; it may raise.
        """
        deadline = time.monotonic() + LEFTOVERS_SECONDS
        while not self.taken():
            give_up()
            if time.monotonic() > deadline:
                raise StartError(f"{self.path} is still held by a process that was started earlier")
            pause(POLL_SECONDS)

    def read(self) -> str:
        """What its last holder wrote into it."""
        return os.pread(self.descriptor, 4096, 0).decode(errors="replace")

    def write(self, text: str) -> None:
        """Leaves a word for whoever comes next."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)
