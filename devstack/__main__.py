"""`make run`: `python -m devstack` starts the servers that the service needs, then the service, and stops them all."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from app.config import Settings
from app.environment import SettingsError
from devstack.errors import StartError
from devstack.launcher import Stack
from devstack.processes.signals import Interrupted, Signals
from devstack.service import ROOT
from devstack.terminal import complain, say

HELP = """\
Starts a Valkey and a PostgreSQL (from their wheels), runs the migrations, loads the example rules once, and serves
with gunicorn on http://127.0.0.1:8000. Rules and counters are kept for the next start.

  PORT, BIND        where to serve (8000, 127.0.0.1)
  REDIS_URL         use that server (or REDIS_HOST, REDIS_PORT, REDIS_DB) instead of starting a Valkey
  DATABASE_URL      use that database instead of starting a PostgreSQL
  DATA_DIR          where data, logs and the admin key are kept (instance)
  ADMIN_API_KEY     the first administrator's key; without it one is made and kept in DATA_DIR/admin.key
  WEB_CONCURRENCY   number of workers
  DRAIN_SECONDS     how long a stopping service still answers (3)

Ctrl-C (SIGINT) finishes the requests in flight and stops everything, servers last; SIGTERM drains first; a second
signal stops at once. It also stops when the process that started it ends. All settings are in .env.example.
"""
CHECK_SECONDS = 1.0


def main() -> int:
    """Returns the exit code: 0 after a signal to stop, 1 after a failure."""
    parent = os.getppid()
    argparse.ArgumentParser(
        prog="python -m devstack", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    os.chdir(ROOT)  # the directory of .env, and the base of a relative DATA_DIR
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        complain(str(error))
        return 1
    with Signals() as signals:
        return _run(Stack(settings, signals.pause), signals, parent)


def _run(stack: Stack, signals: Signals, parent: int) -> int:
    try:
        number, code = _until_told_to_stop(stack, signals, parent)
        stack.stop(number)
    except Interrupted:
        complain("stopping at once")
        stack.kill()
        return 1
    return code


def _until_told_to_stop(stack: Stack, signals: Signals, parent: int) -> tuple[int, int]:
    """Returns the signal to stop with, and the exit code."""
    try:
        stack.start()
        while os.getppid() == parent:
            stack.check()
            signals.pause(CHECK_SECONDS)
    except Interrupted as interruption:
        say(f"stopping ({interruption})")
        # A closed terminal (SIGHUP) is a request to stop; gunicorn would treat SIGHUP as "reload".
        return signal.SIGINT if interruption.number == signal.SIGINT else signal.SIGTERM, 0
    except (StartError, OSError) as error:
        complain(str(error))
        return signal.SIGINT, 1
    say("stopping: the process that started this one has ended")
    return signal.SIGTERM, 0


if __name__ == "__main__":
    sys.exit(main())
