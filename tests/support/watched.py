"""gunicorn.conf.py for a node whose workers note how long each of their greenlets kept the others waiting.

CPU time, so that a busy machine makes it no longer. Lines of seconds, in the file that PAUSES names.
"""

import os
import time
from runpy import run_path

globals().update(run_path("gunicorn.conf.py"))
NOTED_SECONDS = 0.001
_starts = globals()["post_worker_init"]


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    import greenlet

    _starts(worker)
    notes = open(os.environ["PAUSES"], "a", buffering=1)  # noqa: SIM115 - as long as the worker lives
    began = time.thread_time()

    def switched(*_: object) -> None:
        nonlocal began
        seconds = time.thread_time() - began
        if seconds > NOTED_SECONDS:
            notes.write(f"{seconds}\n")
        began = time.thread_time()

    greenlet.settrace(switched)
