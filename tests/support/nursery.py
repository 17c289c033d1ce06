"""Nodes start in a third of the time here: they are forked from a process that has imported most of what they need.

It has imported nothing that decides by the environment at its import. A child is gunicorn as `python -m gunicorn`
starts it, with the environment, the directory and the log of its order.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

PACKAGES = (
    "cryptography.hazmat.primitives.ciphers.aead",
    "dotenv",
    "flask_migrate",
    "flask_smorest",
    "flask_sqlalchemy",
    "gevent.pool",
    "gevent.pywsgi",
    "gunicorn.glogging",
    "gunicorn.workers.ggevent",
    "msgspec",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace",
    "psycopg2.extras",
    "pybreaker",
    "redis",
    "requests",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.orm",
    "yaml",
)
UNTOUCHED = "prometheus_client"  # decides at its import whether it works for several processes


class Child:
    """A process that was forked for somebody else; of `subprocess.Popen` what a node needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it runs. Its exit code is its parent's."""
        return 0 if select.select([self._descriptor], [], [], 0)[0] else None

    def wait(self, timeout: float) -> int:
        if not select.select([self._descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("gunicorn", timeout)
        return 0

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._descriptor)


class Nursery:
    """Started with the first node, stopped on exit."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def start(self, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> Child:
        if self._process is None:
            command = [sys.executable, "-m", "tests.support.nursery"]
            self._process = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([arguments, environment, str(log)]).encode() + b"\n")
        self._process.stdin.flush()
        if not (pid := self._process.stdout.readline()):
            raise RuntimeError("the nursery has ended: what it wrote to standard error says why")
        return Child(int(pid))


def main() -> None:
    """Returns in each child, to become gunicorn. The process that forks them ends with the suite, and they with it."""
    living = set[int]()
    signal.signal(signal.SIGCHLD, lambda *_: _bury(living))
    default, fork = signal.signal, os.fork
    importlib.import_module("gunicorn.app.wsgiapp")
    from gevent import monkey

    monkey.patch_all()
    for package in PACKAGES:
        importlib.import_module(package)
    _import_the_project()
    gc.collect()
    gc.freeze()  # a collection in a child need not look at all of this again
    orders = os.fdopen(0, "rb", closefd=False)
    while order := orders.readline():
        if pid := fork():
            living.add(pid)
            os.write(1, b"%d\n" % pid)
        else:
            default(signal.SIGCHLD, signal.SIG_DFL)
            _take(*json.loads(order))
            return
    for pid in set(living):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGQUIT)
    os._exit(0)


def _import_the_project() -> None:
    """All modules of `app` but those that lead to what must stay untouched."""
    import app

    assert UNTOUCHED not in sys.modules
    sys.modules[UNTOUCHED] = None  # type: ignore[assignment] # its import fails
    for module in pkgutil.walk_packages(app.__path__, "app."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    del sys.modules[UNTOUCHED]


def _bury(living: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            living.discard(pid)


def _take(arguments: list[str], environment: dict[str, str], log: str) -> None:
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for ours, theirs in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(ours, theirs)
    os.close(nothing)
    os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments


def _leave(code: object) -> None:
    """As at the end of a program, but that nothing is taken apart: that takes as long as half a start."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
    from gunicorn.app.wsgiapp import run

    try:
        run()
    except SystemExit as end:
        _leave(end.code)
