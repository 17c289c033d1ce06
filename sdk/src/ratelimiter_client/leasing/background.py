"""The thread that renews and returns leases."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from typing import Callable


class BackgroundThread:
    """A thread of this process, from its first use until it is stopped, at the latest when Python exits.

    `turn()` does the due work and returns the seconds until its next call; None: it waits for `wake`. `end()` runs
    last.
    """

    def __init__(self, turn: Callable[[], float | None], end: Callable[[], None], end_seconds: float) -> None:
        self.stopped: bool = False
        self.abandoned: bool = False
        self._turn, self._end, self._end_seconds = turn, end, end_seconds
        self._bell = locked()  # released to wake the thread
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def runs(self) -> bool:
        """Start the thread. Returns False if there can be none for now."""
        if _may_be_forked_unseen():
            return False
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="ratelimiter-leases", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            _running.add(self)
            _close_with_multiprocessing(self._pid)
        return True

    def wake(self) -> None:
        """Make `turn` run now. Safe anywhere, even in the garbage collector: it waits for no lock."""
        with suppress(RuntimeError):  # already released
            self._bell.release()

    def stop(self) -> None:
        self.stopped = True
        self.wake()

    def close(self) -> None:
        """Stop, and wait up to `end_seconds` for the end."""
        self.stop()
        if self._thread is not None:
            self._thread.join(self._end_seconds)

    def abandon(self) -> None:
        """Give up in a forked child, where the thread does not run: it has nothing to do here."""
        self.stopped = self.abandoned = True
        _running.discard(self)

    def is_own(self) -> bool:
        """Whether the thread belongs to this process, not to a parent."""
        return self._pid == os.getpid()

    def _run(self) -> None:
        while not self.stopped:
            seconds = self._turn()
            self._bell.acquire(timeout=-1 if seconds is None else max(0.0, seconds))
        self._end()
        _running.discard(self)


_running: set[BackgroundThread] = set()  # also threads without any other reference


def _close_all() -> None:
    own = [thread for thread in list(_running) if thread.is_own()]
    for thread in own:
        thread.stop()
    for thread in own:
        thread.close()


atexit.register(_close_all)


@lru_cache(maxsize=None)
def _close_with_multiprocessing(_pid: int) -> None:
    """Register the end once a process: children of multiprocessing end without atexit."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _close_all, exitpriority=0)


def _may_be_forked_unseen() -> bool:
    """uWSGI's master forks its workers without telling Python, and they would use its permits a second time."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


def locked() -> threading.Lock:
    """A lock that is already acquired."""
    lock = threading.Lock()
    lock.acquire()
    return lock
