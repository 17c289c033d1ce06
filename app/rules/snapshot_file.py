"""The last good snapshot on disk, so that a node that starts without its database still decides by the real rules."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from app.rules.rule_book import Edition, Snapshot

FORMAT = 2  # raised where an older version could not read the file
REVISION = 1  # raised where it could: then a file of that version lacks what is new, and is written again


class _Head(msgspec.Struct, kw_only=True):
    """What the file begins with, so that a look at it says what is saved."""

    format: int
    edition: Edition
    revision: int = 0


class _Saved(_Head, kw_only=True):
    snapshot: Snapshot


class SnapshotFile:
    """Reads and writes one file, readable by its owner alone: it holds the secret of the keys.

    Its time of modification is when the rules in it were last known to be current. `clock` is Unix time in seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock

    def read(self) -> Snapshot | None:
        """The saved snapshot; None where there is none that this version understands."""
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError, RecursionError):
            return None
        return saved.snapshot if saved.format == FORMAT else None

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file in one step: a reader sees the old or the new one, a crash leaves one of them.

        Does nothing where this edition is saved already, as by another worker of the node.
        """
        if self._holds(snapshot.edition):
            return
        saved = _Saved(format=FORMAT, edition=snapshot.edition, revision=REVISION, snapshot=snapshot)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(saved))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)  # half a file, with the secret in it
            raise

    def confirm(self, edition: Edition, age_seconds: float) -> None:
        """Note that this edition, if it is the saved one, was current so long ago. Does nothing to another's file."""
        if self._holds(edition):
            current_at = self._clock() - age_seconds
            with contextlib.suppress(OSError):
                os.utime(self._path, (current_at, current_at))

    def age_seconds(self) -> float:
        """Since the saved rules were last known to be current."""
        return max(0.0, self._clock() - self._path.stat().st_mtime)

    def _holds(self, edition: Edition) -> bool:
        head = msgspec.json.encode(_Head(format=FORMAT, edition=edition, revision=REVISION))[:-1]
        try:
            with self._path.open("rb") as file:
                return file.read(len(head)) == head
        except OSError:
            return False
