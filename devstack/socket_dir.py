"""A directory for sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "rl-"  # short, because a socket's path may have only about 100 bytes


@contextmanager
def runtime_directory() -> Iterator[Path]:
    """Yields a new directory with a path short enough for unix sockets; removes it afterwards.

    Others cannot list it.
    """
    path = make_runtime_directory()
    try:
        yield path
    finally:
        remove_runtime_directory(path)


def make_runtime_directory() -> Path:
    """Makes the same directory for a caller that removes it."""
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    if os.geteuid() == 0:
        path.chmod(0o711)  # a PostgreSQL that runs as nobody must reach its own directory inside
    return path


def remove_runtime_directory(path: Path) -> None:
    """Removes the directory if it is one of ours, as far as possible."""
    if path.name.startswith(PREFIX) and path.parent == _parent() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)


def _parent() -> Path:
    """Returns a directory in which every user can create directories.

    TMPDIR is the last resort: its path may be too long for a socket, and closed to the user nobody.
    """
    usual = "/tmp"  # noqa: S108 - mkdtemp chooses the name
    return Path(usual if os.access(usual, os.W_OK | os.X_OK) else tempfile.gettempdir())
