"""The last good snapshot on disk: a node that starts without its database decides by these rules."""

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
from operator import attrgetter
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from app.rules.api_key import ApiKey
from app.rules.rule import PLAIN, UNDERSTOOD, Rule
from app.rules.rule_book import RulesetId, Snapshot
from app.rules.sync.yielding import Pace, unpaced

log = logging.getLogger(__name__)

FORMAT = 2  # raised if older releases cannot read the file
REVISION = 3  # raised if they can, but their file lacks new content and must be rewritten
IGNORED = "the saved rules are not used: %s"
USED = "the saved rules decide until PostgreSQL answers, although %s"
SEALED_SINCE = 2  # the first revision with a checksum
RULES_IN_PIECE = 500  # rules encoded without a switch: 0.3 ms

T = TypeVar("T")


class Run(Protocol):
    """Makes the call, perhaps in a thread, and returns its result."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


def call(work: Callable[[], T]) -> T:
    return work()


class _Head(msgspec.Struct, kw_only=True):
    """The beginning of the file, which identifies its content. The checksum of everything after it follows.

    `version_and_secret` has the name that earlier releases read. `database`: the origin of the rules.
    """

    format: int
    version_and_secret: tuple[int, bytes] = msgspec.field(name="edition")
    revision: int = 0
    drawn: str = ""
    database: str = ""


class _Saved(_Head, kw_only=True):
    """`snapshot` has the plain rules, by which every release can decide. `needing`: the others, by what they need."""

    checksum: str = ""
    snapshot: Snapshot
    needing: dict[int, msgspec.Raw] = {}


class SnapshotFile:
    """Reads and writes one file, readable only by its owner, because it holds the secret of the keys.

    The file's modification time is when its rules were last known to be current. `clock` is Unix time in seconds.

    `database` names this node's database, as server/name. Rules of another database on the same server are ignored.
    Rules of another server are used with a warning: the database may have moved, or be reachable at another address.
    """

    def __init__(self, path: Path, clock: Callable[[], float], database: str = "", pace: Pace = unpaced) -> None:
        self._path = path
        self._clock = clock
        self._database = database
        self._pace = pace

    def read(self) -> Snapshot | None:
        """Return the saved snapshot; None unless it is whole, of this database and of a known format."""
        try:
            raw = self._path.read_bytes()
            saved = msgspec.json.decode(raw, type=_Saved)
            snapshot = _with_all(saved)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            log.warning(IGNORED, f"they cannot be read ({type(error).__name__})")
            return None
        if why := self._unfit(saved, raw):
            log.warning(IGNORED, why)
            return None
        return snapshot

    def save(self, snapshot: Snapshot, age_seconds: float, run: Run = call) -> None:
        """Save the snapshot, and record that it was current `age_seconds` ago. Raises OSError.

        The file is rewritten only if another worker of the node has not saved the same snapshot. `run` may wait for the
        disk in a thread. Encoding stays here, because a thread would hold the interpreter.
        """
        current_at = self._clock() - age_seconds
        if not run(partial(self._holds, snapshot.ruleset_id)):
            body = list(self._pace(_encoded(snapshot, self._pace)))
            run(partial(self._write, snapshot.ruleset_id, body))
        with contextlib.suppress(OSError):
            os.utime(self._path, (current_at, current_at))

    def age_seconds(self) -> float | None:
        """Return the seconds since the saved rules were last known to be current; None without a file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return max(0.0, self._clock() - found.st_mtime) if stat.S_ISREG(found.st_mode) else None

    def _unfit(self, saved: _Saved, raw: bytes) -> str:
        """Return why the file is unfit for a node of this database; "" if it is fit."""
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

    def _write(self, ruleset_id: RulesetId, body: Sequence[bytes]) -> None:
        """Replace the file atomically: readers and crashes leave the old or the new one."""
        checksum = hashlib.sha256()
        for piece in body:
            checksum.update(piece)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(ruleset_id, self._database) + _seal(checksum.hexdigest()))
                file.writelines(body)
                file.flush()
                os.fsync(file.fileno())
            if self._path.is_dir():  # a container runtime creates a directory to mount a missing file
                self._path.rename(f"{temporary}.directory")
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)  # a partial file, with the secret in it
            raise

    def _holds(self, ruleset_id: RulesetId) -> bool:
        """Whether the file holds this ruleset version, undamaged."""
        head = _head(ruleset_id, self._database)
        try:
            with self._path.open("rb") as file:
                if file.read(len(head)) != head:
                    return False
                seal = file.read(len(_seal(hashlib.sha256().hexdigest())))
                return seal == _seal(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            return False


def _with_all(saved: _Saved) -> Snapshot:
    """Return the snapshot with all rules that this release understands, by id. Raises MsgspecError."""
    rules = [
        rule
        for needs, encoded in saved.needing.items()
        if needs <= UNDERSTOOD
        for rule in msgspec.json.decode(encoded, type=list[Rule])
    ]
    everything = sorted([*saved.snapshot.rules, *rules], key=attrgetter("id")) if rules else saved.snapshot.rules
    return replace(saved.snapshot, rules=tuple(everything))


def _encoded(snapshot: Snapshot, pace: Pace) -> Iterator[bytes]:
    """Yield the part after the checksum, in pieces of at most a millisecond."""
    by_needs: dict[int, list[Rule]] = {PLAIN: []}
    for rule in pace(snapshot.rules):
        by_needs.setdefault(rule.needs, []).append(rule)
    frame = msgspec.json.encode(replace(snapshot, rules=(), keys=()))
    before, rules, rest = frame.partition(b'"rules":[')  # only numbers and base64 precede it
    between, keys, after = rest.partition(b'"keys":[')
    yield b',"snapshot":' + before + rules
    yield from _listed(by_needs.pop(PLAIN))
    yield between + keys
    yield from _listed(snapshot.keys)
    yield after + b',"needing":{'
    for place, (needs, needing) in enumerate(by_needs.items()):
        yield b'%b"%d":[' % (b"," * (place > 0), needs)
        yield from _listed(needing)
        yield b"]"
    yield b"}}"


def _listed(items: Sequence[Rule | ApiKey]) -> Iterator[bytes]:
    """Yield the items of a JSON array."""
    for first in range(0, len(items), RULES_IN_PIECE):
        encoded = msgspec.json.encode(items[first : first + RULES_IN_PIECE])
        yield (b"," if first else b"") + encoded[1:-1]


def _head(ruleset_id: RulesetId, database: str) -> bytes:
    version, secret, drawn = ruleset_id
    head = _Head(format=FORMAT, version_and_secret=(version, secret), revision=REVISION, drawn=drawn, database=database)
    return msgspec.json.encode(head)[:-1]


def _seal(checksum: str) -> bytes:
    return b',"checksum":"%b"' % checksum.encode()


def _whole(raw: bytes) -> bool:
    """Whether the checksum matches the rest of the file. The head may be of another release."""
    at = raw.find(_seal("")[:-1])
    end = at + len(_seal(hashlib.sha256().hexdigest()))
    return at > 0 and raw[at:end] == _seal(hashlib.sha256(raw[end:]).hexdigest())
