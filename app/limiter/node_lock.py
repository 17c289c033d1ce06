"""A lock among the workers of a node."""

from __future__ import annotations

import fcntl
import os
import tempfile
import weakref


class NodeLock:
    """Made before the fork; held in a `with`, not twice at a time.

    It belongs to a process: the kernel frees it when the holder dies, however that happens. Greenlets of the holder
    are kept out only by holding it without a switch between them: no I/O, no logging.
    """

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp(prefix="ratelimiter-lock-")
        os.unlink(path)  # nobody else can open it: closing it anywhere in a process would free that process's lock
        weakref.finalize(self, os.close, self._file)

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
