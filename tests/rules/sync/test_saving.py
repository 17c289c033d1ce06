"""When a worker saves its rules, and what it says of their age."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from app.rules.rule_book import Snapshot
from app.rules.sync.reloader import CONFIRM_SECONDS, SAVE_AGAIN_SECONDS, Freshness, RuleReloader
from app.rules.sync.snapshot_file import SnapshotFile
from tests.rules.sync.reloading import RULE, Database, build, reloader

T = TypeVar("T")


def test_saved_rules_are_as_old_as_their_last_confirmation_not_as_their_last_change(tmp_path: Path) -> None:
    now, database = [1_000.0], Database(Snapshot(4, b"secret", (RULE,)))

    def started() -> RuleReloader:
        saved = SnapshotFile(tmp_path / "rules.json", lambda: 1e9 + now[0])
        subject = RuleReloader(source=database, saved=saved, build=build, clock=lambda: now[0])
        subject.start()
        return subject

    earlier = started()
    earlier.save()
    for seconds in (9, 1):
        assert not earlier.to_be_saved
        now[0] += seconds
        earlier.refresh()
    assert earlier.to_be_saved
    earlier.save()
    database.snapshot = None
    now[0] += 30
    earlier.refresh()
    assert not earlier.to_be_saved
    now[0] += 5
    earlier.save()
    later = started()
    assert later.freshness() == Freshness(4, 35, database_available=False, rejected=False)
    now[0] += 5
    assert later.freshness().age_seconds == 40


def test_rules_stay_unsaved_until_the_disk_has_taken_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "app.rules.sync.reloader")
    now, place = [50.0], tmp_path / "data"
    place.write_text("no directory")
    subject = reloader(Database(Snapshot(4, b"secret", (RULE,))), place, now)
    subject.start()
    for _ in range(3):
        assert subject.to_be_saved
        subject.save()
        assert not subject.to_be_saved  # at once
        now[0] += SAVE_AGAIN_SECONDS
    place.unlink()
    assert subject.to_be_saved
    subject.save()
    assert not subject.to_be_saved
    assert SnapshotFile(place / "rules.json", time.time).read() is not None
    said = [message for message in caplog.messages if "saved" in message]
    assert [message.partition(":")[0] for message in said] == [
        "rules cannot be saved for a start without the database",
        "rules are saved again",
    ]


def test_rules_that_change_while_older_ones_are_written_are_saved_next(tmp_path: Path) -> None:
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path, [50.0])
    subject.start()

    def run(work: Callable[[], T]) -> T:
        """The disk takes its time, and meanwhile a refresh finds other rules."""
        done = work()
        database.snapshot = Snapshot(5, b"secret", ())
        subject.refresh()
        return done

    subject.save(run)
    assert subject.to_be_saved
    subject.save()
    assert not subject.to_be_saved
    saved = SnapshotFile(tmp_path / "rules.json", time.time).read()
    assert saved is not None
    assert (saved.version, saved.rules) == (5, ())


def test_a_file_that_goes_away_is_back_soon(tmp_path: Path) -> None:
    now = [50.0]
    subject = reloader(Database(Snapshot(4, b"secret", (RULE,))), tmp_path, now)
    subject.start()
    subject.save()
    (tmp_path / "rules.json").unlink()
    assert subject.saved_age_seconds is None
    now[0] += CONFIRM_SECONDS
    subject.refresh()
    assert subject.to_be_saved
    subject.save()
    assert subject.saved_age_seconds is not None
