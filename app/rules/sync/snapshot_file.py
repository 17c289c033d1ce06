"""The last good snapshot on disk, so that a node that starts without its database still decides by the real rules."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from app.rules.api_key import ApiKey
from app.rules.rule import Rule
from app.rules.rule_book import RulesetId, Snapshot
from app.rules.yielding import Pace, unpaced

log = logging.getLogger(__name__)

FORMAT = 2  # raised where an older version could not read the file
REVISION = 2  # raised where it could: then a file of that version lacks what is new, and is written again
IGNORED = "the saved rules are not used: %s"
USED = "the saved rules decide until PostgreSQL answers, although %s"
SEALED_SINCE = 2  # the revision with which files got a checksum
PIECE = 500  # rules that are encoded at once: 0.3 ms

T = TypeVar("T")


class Run(Protocol):
    """Calls, perhaps in a thread, and returns what that returns."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


def call(work: Callable[[], T]) -> T:
    return work()


class _Head(msgspec.Struct, kw_only=True):
    """What the file begins with, so that a look at it says what is saved. A checksum of all the rest follows it.

    `edition`: version and secret, as the release before reads it. `database`: where the rules come from.
    """

    format: int
    edition: tuple[int, bytes]
    revision: int = 0
    drawn: str = ""
    database: str = ""


class _Saved(_Head, kw_only=True):
    checksum: str = ""
    snapshot: Snapshot


class SnapshotFile:
    """Reads and writes one file, readable by its owner alone: it holds the secret of the keys.

    Its time of modification is when the rules in it were last known to be current. `clock` is Unix time in seconds.
    `database` names the database of this node, as server/name. Rules of another database on the same server are not
    read. Those of another server are, with a word: the database may have moved there, or be away under another address.
    """

    def __init__(self, path: Path, clock: Callable[[], float], database: str = "", pace: Pace = unpaced) -> None:
        self._path = path
        self._clock = clock
        self._database = database
        self._pace = pace

    def read(self) -> Snapshot | None:
        """The saved snapshot; None where there is none that is whole, of this database and of a known format."""
        try:
            raw = self._path.read_bytes()
            saved = msgspec.json.decode(raw, type=_Saved)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            log.warning(IGNORED, f"they cannot be read ({type(error).__name__})")
            return None
        if why := self._unfit(saved, raw):
            log.warning(IGNORED, why)
            return None
        return saved.snapshot

    def save(self, snapshot: Snapshot, age_seconds: float, run: Run = call) -> None:
        """Have the snapshot on disk, noted as current so long ago. Written only where it is not there, whole, already,
        as by another worker of the node. Raises OSError.

        `run` may wait for the disk elsewhere. Encoding is no such work: a thread would keep the interpreter to itself.
        """
        current_at = self._clock() - age_seconds
        if not run(partial(self._holds, snapshot.ruleset_id)):
            body = list(self._pace(_encoded(snapshot)))
            run(partial(self._write, snapshot.ruleset_id, body))
        with contextlib.suppress(OSError):
            os.utime(self._path, (current_at, current_at))

    def age_seconds(self) -> float | None:
        """Since the saved rules were last known to be current; None where there is no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return max(0.0, self._clock() - found.st_mtime) if stat.S_ISREG(found.st_mode) else None

    def _unfit(self, saved: _Saved, raw: bytes) -> str:
        """Why no node of this database can decide by them, or nothing."""
        if saved.format != FORMAT:
            return "their format is of another release"
        if saved.database not in ("", self._database):
            why = f"they are of {saved.database}, not of {self._database}"
            if saved.database.rpartition("/")[0] == self._database.rpartition("/")[0]:
                return why
            log.warning(USED, why)
        if saved.revision >= SEALED_SINCE and not _whole(raw):
            return "their checksum is wrong"
        return ""

    def _write(self, edition: RulesetId, body: Sequence[bytes]) -> None:
        """Replace the file in one step: a reader sees the old or the new one, a crash leaves one of them."""
        checksum = hashlib.sha256()
        for piece in body:
            checksum.update(piece)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(edition, self._database) + _seal(checksum.hexdigest()))
                file.writelines(body)
                file.flush()
                os.fsync(file.fileno())
            if self._path.is_dir():  # a container runtime makes one where it is to mount a file that is not there
                self._path.rename(f"{temporary}.directory")
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)  # half a file, with the secret in it
            raise

    def _holds(self, edition: RulesetId) -> bool:
        """Whether this edition is there, whole."""
        head = _head(edition, self._database)
        try:
            with self._path.open("rb") as file:
                if file.read(len(head)) != head:
                    return False
                seal = file.read(len(_seal(hashlib.sha256().hexdigest())))
                return seal == _seal(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            return False


def _encoded(snapshot: Snapshot) -> Iterator[bytes]:
    """What follows the checksum, in pieces of a millisecond at most."""
    frame = msgspec.json.encode(replace(snapshot, rules=(), keys=()))
    before, rules, rest = frame.partition(b'"rules":[')  # what stands before it are numbers and base64
    between, keys, after = rest.partition(b'"keys":[')
    yield b',"snapshot":' + before + rules
    yield from _listed(snapshot.rules)
    yield between + keys
    yield from _listed(snapshot.keys)
    yield after + b"}"


def _listed(items: Sequence[Rule | ApiKey]) -> Iterator[bytes]:
    """The items of a JSON array."""
    for first in range(0, len(items), PIECE):
        encoded = msgspec.json.encode(items[first : first + PIECE])
        yield (b"," if first else b"") + encoded[1:-1]


def _head(edition: RulesetId, database: str) -> bytes:
    version, secret, drawn = edition
    head = _Head(format=FORMAT, edition=(version, secret), revision=REVISION, drawn=drawn, database=database)
    return msgspec.json.encode(head)[:-1]


def _seal(checksum: str) -> bytes:
    return b',"checksum":"%b"' % checksum.encode()


def _whole(raw: bytes) -> bool:
    """Whether what follows the checksum is what it was made of. The head may be that of another release."""
    at = raw.find(_seal("")[:-1])
    end = at + len(_seal(hashlib.sha256().hexdigest()))
    return at > 0 and raw[at:end] == _seal(hashlib.sha256(raw[end:]).hexdigest())
