"""Keeps a worker's rule book fresh: polls the version, swaps in a whole new book, survives a dead database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.observability.metrics import RULES_AGE, RULES_VERSION
from app.rules.rule_book import Edition, RuleBook, Snapshot
from app.rules.snapshot_file import SnapshotFile

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where snapshots come from: the database."""

    def other_than(self, edition: Edition | None) -> Snapshot | None: ...


@dataclass(frozen=True, slots=True)
class Freshness:
    """`age_seconds`: since the rules were last confirmed current; None: never in this worker."""

    version: int | None
    age_seconds: float | None
    database_available: bool


class RuleReloader:
    """Holds the current `book`. `clock` is monotonic seconds; `build` makes a book of a snapshot, or raises."""

    def __init__(
        self,
        *,
        source: Source,
        saved: SnapshotFile,
        build: Callable[[Snapshot], RuleBook],
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._saved = saved
        self._build = build
        self._clock = clock
        self._confirmed_at: float | None = None
        self._database_available = True
        self._one_at_a_time = threading.Lock()
        self.book: RuleBook | None = None

    def start(self) -> None:
        """First load: the database's rules, or while it cannot be read, those saved by an earlier run."""
        self.refresh()
        saved = self._saved.read() if self.book is None else None
        if saved is None:
            return
        try:
            self.book = self._build(saved)
            log.warning("deciding by the rules saved at version %d until the database answers", saved.version)
        except Exception:  # a damaged file must not keep the node from coming up
            log.exception("the saved rules cannot be used")

    def refresh(self) -> None:
        """Swap in the database's rules if they are other ones. On any error the last good book stays.

        One at a time: a slow poll must not put an older snapshot over that of a change made meanwhile.
        """
        with self._one_at_a_time:
            try:
                self._refresh()
                self._available(True)
            except Exception as error:  # whatever it is, the last good rules go on deciding
                self._available(False, error)
            self._show()

    def _refresh(self) -> None:
        snapshot = self._source.other_than(self.book.edition if self.book else None)
        if snapshot is not None:
            self.book = self._build(snapshot)
            self._save(snapshot)
            log.info("rules version %d: %d rules", snapshot.version, len(snapshot.rules))
        self._confirmed_at = self._clock()

    def freshness(self) -> Freshness:
        """What `/health` shows of the rules."""
        age = None if self._confirmed_at is None else self._clock() - self._confirmed_at
        return Freshness(self.book.edition.version if self.book else None, age, self._database_available)

    def _save(self, snapshot: Snapshot) -> None:
        try:
            self._saved.write(snapshot)
        except OSError as error:
            log.warning("rules cannot be saved for a start without the database: %s", error)

    def _available(self, now: bool, error: Exception | None = None) -> None:
        """One line per change, not per poll."""
        if self._database_available and not now:
            log.warning("rules cannot be read, the last good ones stay: %s", error)
        elif now and not self._database_available:
            log.info("rules can be read again")
        self._database_available = now

    def _show(self) -> None:
        state = self.freshness()
        RULES_VERSION.set(state.version or 0)
        RULES_AGE.set(state.age_seconds or 0)
