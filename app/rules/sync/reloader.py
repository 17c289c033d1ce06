"""Keeps a worker's rule book fresh: asks for the ruleset version, swaps whole books, survives a dead database."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.observability.logs import first_line
from app.observability.metrics import RULE_COUNTS, RULES_AGE, RULES_VERSION
from app.rules.rule_book import RuleBook, RulesetId, Snapshot
from app.rules.sync.garbage_collection import long_work
from app.rules.sync.snapshot_file import Run, SnapshotFile, call
from app.rules.sync.yielding import Pace, let_go, unpaced

log = logging.getLogger(__name__)

CONFIRM_SECONDS = 10.0  # between two updates of the saved file's time, which confirm that its rules are still current
SAVE_AGAIN_SECONDS = 2.0  # after a failed save


class Source(Protocol):
    """Provides snapshots: the database."""

    def other_than(self, ruleset_id: RulesetId | None) -> Snapshot | None: ...


class Build(Protocol):
    """Makes a book from a snapshot, given the book in use. Raises an error for a rule that cannot decide."""

    def __call__(self, snapshot: Snapshot, *, previous: RuleBook | None) -> RuleBook: ...


@dataclass(frozen=True, slots=True)
class Freshness:
    """The state of the rules for `/health`.

    `age_seconds`: time since the rules were last confirmed current, perhaps by an earlier run; None: no rules are
    known. `rejected`: the database holds other rules that cannot be used.
    """

    version: int | None
    age_seconds: float | None
    database_available: bool
    rejected: bool


class RuleReloader:
    """Holds the current `book`. `clock` is monotonic seconds."""

    def __init__(
        self, *, source: Source, saved: SnapshotFile, build: Build, clock: Callable[[], float], pace: Pace = unpaced
    ) -> None:
        self._source = source
        self._saved = saved
        self._build = build
        self._clock = clock
        self._pace = pace
        self._follow: Callable[[Pace], object] = lambda _: None
        self._left: list[RuleBook] = []
        self._started_at = clock()
        self._confirmed_at: float | None = None
        self._confirmed_on_disk_at = self._started_at
        self._unavailable = ""
        self._rejected = ""
        self._begun = 0
        self._one_at_a_time = threading.Lock()
        self._snapshot: Snapshot | None = None  # the snapshot of `book`
        self._on_disk: RulesetId | None = None
        self._unsavable = ""
        self._save_at = self._started_at
        self.book: RuleBook | None = None

    def start(self) -> None:
        """Load the first rules: the database's, or the saved ones of an earlier run if it cannot be read."""
        self._started_at = self._clock()
        self.refresh()
        saved = self._saved.read() if self.book is None else None
        if saved is None:
            return
        try:
            confirmed_at = self._clock() - (self._saved.age_seconds() or 0.0)
            self.book, self._confirmed_at = self._build(saved, previous=None), confirmed_at
            self._snapshot, self._on_disk = saved, saved.ruleset_id
            self._show()
            log.warning("deciding by the rules saved at version %d until the database answers", saved.version)
        except Exception:  # a damaged file must not keep the node from starting
            log.exception("the saved rules cannot be used")

    def refresh(self, patience_seconds: float = -1) -> None:
        """Swap in the database's rules if they have changed. On any error the last good book stays.

        Refreshes run one at a time: a slow poll must not replace newer rules with an older snapshot. Returns at once if
        a whole refresh ran while waiting. Gives up after `patience_seconds` of waiting (-1: never).
        """
        begun = self._begun
        if not self._one_at_a_time.acquire(timeout=patience_seconds):
            return
        try:
            if self._begun > begun:
                return
            self._begun += 1
            before = self.book
            with long_work:
                self._refresh()
            self._show()
            if before is not None and before is not self.book:
                self._left.append(before)
        finally:
            self._one_at_a_time.release()

    def then(self, follow: Callable[[Pace], object]) -> None:
        """Let `tidy` call `follow`, after which only the current book is needed."""
        self._follow = follow

    def tidy(self) -> None:
        """Free books that are no longer current, in pieces. Separate from `refresh`, which requests wait for."""
        with long_work:
            if self._left:
                self._follow(self._pace)
            while self._left:
                book = self._left.pop()
                still, parts = weakref.ref(book), book.large_parts(self._pace)
                del book
                if still() is None:  # otherwise a caller still uses the book, and frees it
                    let_go(self._pace, *parts)

    def save(self, run: Run = call) -> None:
        """Save the current rules and the time when they were current. `run` may wait for the disk in a thread.

        The snapshot is taken in this greenlet, where no refresh can intervene. After a failure it is saved again later.
        """
        snapshot, confirmed_at = self._snapshot, self._confirmed_at
        if snapshot is None or confirmed_at is None:
            return
        try:
            with long_work:
                self._saved.save(snapshot, self._clock() - confirmed_at, run)
        except OSError as error:
            self._cannot_save(str(error))
            self._save_at = self._clock() + SAVE_AGAIN_SECONDS
        else:
            self._cannot_save("")
            self._on_disk, self._confirmed_on_disk_at = snapshot.ruleset_id, confirmed_at

    @property
    def to_be_saved(self) -> bool:
        """Whether the disk lacks these rules, or their time on disk needs an update."""
        if self._snapshot is None or self._confirmed_at is None or self._clock() < self._save_at:
            return False
        unnoted_seconds = self._confirmed_at - self._confirmed_on_disk_at
        return self._snapshot.ruleset_id != self._on_disk or unnoted_seconds >= CONFIRM_SECONDS

    @property
    def saved_age_seconds(self) -> float | None:
        """Seconds since the rules on disk were last known to be current; None without saved rules."""
        return self._saved.age_seconds()

    def freshness(self) -> Freshness:
        """Return the state of the rules for `/health`."""
        age = None if self._confirmed_at is None else self._clock() - self._confirmed_at
        version = self.book.ruleset_id.version if self.book else None
        return Freshness(version, age, not self._unavailable, bool(self._rejected))

    def _refresh(self) -> None:
        asked_at = self._clock()
        try:
            snapshot = self._source.other_than(self.book.ruleset_id if self.book else None)
        except Exception as error:  # after any error, the last good rules go on deciding
            self._cannot_read(first_line(error))
            return
        self._cannot_read("")
        try:
            if snapshot is not None:
                self.book = self._build(snapshot, previous=self.book)
                self._snapshot = snapshot
                log.info("rules version %d: %d rules", snapshot.version, len(snapshot.rules))
        except Exception as error:
            self._reject(first_line(error))
            return
        self._reject("")
        self._confirmed_at = asked_at

    def _cannot_read(self, why: str) -> None:
        """Log one line per change, not per poll."""
        if why and not self._unavailable:
            log.warning("rules cannot be read, %s: %s", self._instead(), why)
        elif self._unavailable and not why:
            log.info("rules can be read again")
        self._unavailable = why

    def _cannot_save(self, why: str) -> None:
        """Log one line per change, not per attempt."""
        if why and not self._unsavable:
            log.warning("rules cannot be saved for a start without the database: %s", why)
        elif self._unsavable and not why:
            log.info("rules are saved again")
        self._unsavable = why

    def _reject(self, why: str) -> None:
        """Log one line per problem, not per poll."""
        if why and why != self._rejected:
            log.error("rules in the database cannot be used, %s: %s", self._instead(), why)
        elif self._rejected and not why:
            log.info("the rules in the database can be used again")
        self._rejected = why

    def _instead(self) -> str:
        return "the last good ones stay" if self.book else "and none are known yet"

    def _show(self) -> None:
        state = self.freshness()
        if self.book is not None:
            RULE_COUNTS.follow(self.book.series.of)
        RULES_VERSION.set(state.version or 0)
        RULES_AGE.set(self._clock() - self._started_at if state.age_seconds is None else state.age_seconds)
