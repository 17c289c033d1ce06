"""Locks DATA_DIR for one run at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devstack.errors import StartError
from devstack.processes.supervised import Pause
from devstack.servers.data_lock import Lock
from devstack.socket_dir import remove_runtime_directory, runtime_directory
from devstack.terminal import say


@contextmanager
def locked_data_dir(data_dir: Path, pause: Pause) -> Iterator[tuple[Lock, Path]]:
    """Locks `data_dir`; yields the lock and a directory for sockets. Raises StartError if another run has it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = Lock(data_dir / "run.lock")
    except OSError as error:
        allowed = f"a directory that this user can make and write to ({error.strerror})"
        raise StartError(f"DATA_DIR={data_dir}: allowed is {allowed}") from error
    try:
        if not lock.taken():
            _refuse_if_in_use(lock, data_dir)
            say("waiting until programs of an earlier, killed run have stopped")
            lock.take(pause, lambda: _refuse_if_in_use(lock, data_dir))
        remove_runtime_directory(Path(_note(lock).get("sockets", "")))  # left by a killed run
        with runtime_directory() as sockets:
            record_servers(lock, sockets, servers={})
            yield lock, sockets
            lock.write("")
    finally:
        lock.close()


def record_servers(lock: Lock, sockets: Path, *, servers: Mapping[str, str]) -> None:
    """Notes the lock's owner and the URLs of `servers` by variable, for app/cli/resources/devstack_servers.py."""
    lock.write(json.dumps({"pid": os.getpid(), "sockets": str(sockets), "servers": dict(servers)}))


def _refuse_if_in_use(lock: Lock, data_dir: Path) -> None:
    owner = _note(lock).get("pid")
    if owner is not None and _alive(owner):
        raise StartError(f"{data_dir} is in use by process {owner}: stop that first, or set DATA_DIR")


def _note(lock: Lock) -> dict[str, Any]:
    try:
        note = json.loads(lock.read())
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
