"""A directory for sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "rl-"  # short: a socket's path has about 100 bytes


@contextmanager
def runtime_directory() -> Iterator[Path]:
    """A new directory with a path short enough for unix sockets; gone afterwards. Others cannot list it."""
    path = make_runtime_directory()
    try:
        yield path
    finally:
        remove_runtime_directory(path)


def make_runtime_directory() -> Path:
    """As above, for whoever removes it himself."""
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    if os.geteuid() == 0:
        path.chmod(0o711)  # a PostgreSQL that runs as nobody has to reach its own directory inside
    return path


def remove_runtime_directory(path: Path) -> None:
    """Removes it if it is one of ours, as far as that is possible."""
    if path.name.startswith(PREFIX) and path.parent == _parent() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)


def _parent() -> Path:
    """Where everybody can make directories. What TMPDIR names can be too long for a socket, and closed for nobody."""
    usual = "/tmp"  # noqa: S108 - mkdtemp chooses the name
    return Path(usual if os.access(usual, os.W_OK | os.X_OK) else tempfile.gettempdir())
