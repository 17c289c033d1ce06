"""A PostgreSQL data directory, created completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from devstack.errors import StartError
from devstack.private_file import write_private
from devstack.processes.supervised import Pause, Program, Supervised
from devstack.processes.unprivileged import Home

USER = "ratelimiter"
INITDB_SECONDS = 120.0


def make_pgdata(home: Home, *, durable: bool, program: Callable[..., Program], pause: Pause) -> None:
    """Fills `home.data` with `cluster` (the data) and `password`. An interrupted attempt leaves no trace."""
    unfinished = home.data.with_name(f"{home.data.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    write_private(unfinished / "password", secrets.token_urlsafe(32))
    _give(home, unfinished, unfinished / "password")
    initdb = Supervised(
        program(name="initdb", argv=_initdb(home, unfinished, durable), stop_signal=signal.SIGTERM), pause
    )
    try:
        if initdb.wait(INITDB_SECONDS) != 0:
            raise StartError("initdb could not make a database")
    finally:
        initdb.stop()
    unfinished.rename(home.data)
    if durable:
        _sync(home.data.parent)


def password_of(home: Home) -> str:
    """Returns the password of the database's only user."""
    return (home.data / "password").read_text().strip()


def is_made(home: Home) -> bool:
    """Returns whether there is a cluster from an earlier start."""
    return (home.data / "cluster" / "PG_VERSION").exists()


def _initdb(home: Home, directory: Path, durable: bool) -> tuple[str, ...]:
    return (
        str(home.programs / "initdb"),
        f"--pgdata={directory / 'cluster'}",
        f"--pwfile={directory / 'password'}",
        f"--username={USER}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        *(() if durable else ("--no-sync",)),
    )


def _give(home: Home, *paths: Path) -> None:
    if home.identity.kind == "user":
        for path in paths:
            os.chown(path, home.identity.uid, home.identity.gid)


def _sync(directory: Path) -> None:
    """Makes the new name durable; PostgreSQL itself syncs only the contents."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
