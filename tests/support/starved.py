"""A machine that has no time for a node's workers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

LOOPS = os.cpu_count() or 1
SEED = 20261130
EAGER = -10


def goes_first(pid: int) -> bool:
    """Puts the leader of a session before all others that want a processor; False where this user may not say so.

    Linux shares processors among sessions first, where it is told to (autogroup), and in them by niceness.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, EAGER)
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/{pid}/autogroup").write_text(str(EAGER))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def starved(workers: Sequence[int], *, niceness: int) -> Iterator[None]:
    """Busy loops beside the workers, which get that `niceness` and are stopped at random for a moment."""
    before = [os.getpriority(os.PRIO_PROCESS, pid) for pid in workers]
    for pid in workers:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(LOOPS)]
    over = threading.Event()
    stopper = threading.Thread(target=_stop_and_go, args=(workers, over))
    stopper.start()
    try:
        yield
    finally:
        over.set()
        stopper.join()
        for loop in loops:
            loop.kill()
            loop.wait()
        for pid, niceness in zip(workers, before, strict=True):
            with contextlib.suppress(PermissionError):  # then they stay lazy
                os.setpriority(os.PRIO_PROCESS, pid, niceness)


def _stop_and_go(workers: Sequence[int], over: threading.Event) -> None:
    """One worker at a time stands still for 10 to 150 ms."""
    dice = random.Random(SEED)
    while not over.wait(dice.uniform(0.02, 0.2)):
        worker = dice.choice(workers)
        os.kill(worker, signal.SIGSTOP)
        over.wait(dice.uniform(0.01, 0.15))
        os.kill(worker, signal.SIGCONT)
