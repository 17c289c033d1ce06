"""A lock between the workers of a node."""

from __future__ import annotations

import fcntl
import os
import tempfile
import weakref
from typing import Any

from gevent.monkey import get_original

PATIENCE_SECONDS = 0.1  # at least: a running holder needs only microseconds
PAUSE_SECONDS = 0.0001

# The real sleep: gevent's would let other greenlets of this process run.
_pause: Any = get_original("time", "sleep")


class NodeLock:
    """Made before the fork. Use it in a `with` block; it is not reentrant.

    The lock belongs to a process, so the kernel frees it whenever the holder dies. A stopped holder (SIGSTOP, a
    debugger) does not block the others: each waits once, then continues without the lock until it is free again. The
    guarded data must tolerate this, and also the write that the holder makes when it continues.

    Other greenlets of the holder are excluded only if it does not switch while it holds the lock: no I/O, no logging.
    """

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp(prefix="ratelimiter-lock-")
        os.unlink(path)  # no other process can open it: closing it anywhere in a process would free that process's lock
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
