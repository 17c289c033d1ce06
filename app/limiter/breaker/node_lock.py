"""A lock among the workers of a node."""

from __future__ import annotations

import fcntl
import os
import tempfile
import weakref
from typing import Any

from gevent.monkey import get_original

PATIENCE_SECONDS = 0.1  # at least: a holder that runs needs microseconds
PAUSE_SECONDS = 0.0001

# gevent's would let other greenlets of this process in between.
_pause: Any = get_original("time", "sleep")


class NodeLock:
    """Made before the fork; held in a `with`, not twice at a time.

    It belongs to a process: the kernel frees it when the holder dies, however that happens. A holder that is stopped
    (SIGSTOP, a debugger) stops nobody: each of the others waits for it once, then goes on without the lock until it is
    free again. What it guards has to bear that, and the write that the holder still does when it goes on.

    Greenlets of the holder are kept out only by holding it without a switch between them: no I/O, no logging.
    """

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp(prefix="ratelimiter-lock-")
        os.unlink(path)  # nobody else can open it: closing it anywhere in a process would free that process's lock
        weakref.finalize(self, os.close, self._file)
        self._waited_in_vain = False

    def __enter__(self) -> None:
        for _ in range(1 if self._waited_in_vain else round(PATIENCE_SECONDS / PAUSE_SECONDS)):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                _pause(PAUSE_SECONDS)
            else:
                self._waited_in_vain = False
                return
        self._waited_in_vain = True

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
