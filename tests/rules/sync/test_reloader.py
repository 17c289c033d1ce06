"""The reloader: last good rules whatever happens, and those of the disk when there is no database at the start."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path

import pytest
from msgspec.structs import replace

from app.rules.rule import Limit, Rule
from app.rules.rule_book import LARGE, RulesetId, Snapshot
from app.rules.sync.reloader import Freshness, RuleReloader
from app.rules.sync.snapshot_file import SnapshotFile
from tests.rules.sync.reloading import RULE, Database, build, reloader


def test_a_new_version_is_swapped_in_and_saved(tmp_path: Path) -> None:
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path)
    subject.start()
    first = subject.book
    subject.refresh()
    assert subject.book is first
    database.snapshot = Snapshot(5, b"secret", ())
    subject.refresh()
    assert subject.freshness().version == 5
    assert subject.to_be_saved
    subject.save()
    assert not subject.to_be_saved
    assert SnapshotFile(tmp_path / "rules.json", time.time).read() == database.snapshot


def test_without_the_database_the_saved_rules_decide(tmp_path: Path) -> None:
    earlier = reloader(Database(Snapshot(4, b"secret", (RULE,))), tmp_path)
    earlier.start()
    earlier.save()
    subject = reloader(Database(None), tmp_path)
    subject.start()
    assert subject.book is not None
    assert subject.book.match(1, "a", "login").id == 3
    assert not subject.freshness().database_available


def test_a_restored_database_that_reaches_the_same_version_is_noticed(tmp_path: Path) -> None:
    database = Database(Snapshot(4, b"secret", (RULE,), drawn="aa"))
    subject = reloader(database, tmp_path)
    subject.start()
    subject.save()
    database.snapshot = Snapshot(4, b"secret", (), drawn="bb")
    subject.refresh()
    assert subject.to_be_saved
    subject.save()
    assert SnapshotFile(tmp_path / "rules.json", time.time).read() == database.snapshot


def test_without_database_and_saved_rules_there_is_no_book(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"format":2,"edition":[4,')
    subject = reloader(Database(None), tmp_path)
    subject.start()
    assert (subject.book, subject.freshness().age_seconds) == (None, None)
    subject._source.snapshot = Snapshot(1, b"", ())  # type: ignore[attr-defined]
    subject.refresh()
    assert subject.book is not None


def test_the_log_says_what_stays_only_where_there_is_something_and_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "app.rules.sync.reloader")
    subject = reloader(Database(None), tmp_path)
    subject.start()
    assert caplog.messages == ["rules cannot be read, and none are known yet: the database is down"]
    subject._source.snapshot = Snapshot(1, b"", ())  # type: ignore[attr-defined]
    subject.refresh()
    subject._source.snapshot = None  # type: ignore[attr-defined]
    subject.refresh()
    assert caplog.messages[-1] == "rules cannot be read, the last good ones stay: the database is down"


def test_a_failure_leaves_the_last_good_rules_and_shows_their_age(tmp_path: Path) -> None:
    now = [50.0]
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path, now)
    subject.start()
    database.snapshot = None
    now[0] += 20
    subject.refresh()
    assert subject.freshness() == Freshness(4, 20, database_available=False, rejected=False)
    database.snapshot = Snapshot(4, b"secret", (RULE,))
    subject.refresh()
    assert subject.freshness() == Freshness(4, 0, database_available=True, rejected=False)


def test_a_bad_row_leaves_the_last_good_rules_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [50.0]
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path, now)
    subject.start()
    subject.save()
    bad = Rule(id=7, client_id="b", limits=(Limit(1, 1, "leaky_bucket"),))
    database.snapshot = Snapshot(5, b"secret", (RULE, bad))
    with caplog.at_level("ERROR", logger="app.rules.sync.reloader"):
        for _ in range(3):
            now[0] += 10
            subject.refresh()
    assert subject.freshness() == Freshness(4, 30, database_available=True, rejected=True)
    assert not subject.to_be_saved
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "rule 7 of tenant 1" in errors[0]
    assert "leaky_bucket" in errors[0]
    database.snapshot = Snapshot(6, b"secret", (RULE,))
    subject.refresh()
    assert subject.freshness() == Freshness(6, 0, database_available=True, rejected=False)


def test_who_waited_while_another_refreshed_asks_no_more(tmp_path: Path) -> None:
    """Five callers arrive while a refresh runs: the first of them asks the database for all."""
    first, go_on, asked = threading.Event(), threading.Event(), []

    class Slow:
        def other_than(self, ruleset_id: RulesetId | None) -> Snapshot | None:
            asked.append(ruleset_id)
            first.set()
            assert go_on.wait(10)
            return None

    subject = RuleReloader(source=Slow(), saved=SnapshotFile(tmp_path / "x", time.time), build=build, clock=lambda: 0.0)
    threads = [threading.Thread(target=subject.refresh) for _ in range(6)]
    threads[0].start()
    assert first.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert 1 <= len(asked) <= 2


def test_another_database_at_the_same_version_is_noticed(tmp_path: Path) -> None:
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path)
    subject.start()
    database.snapshot = Snapshot(4, b"of another database", ())
    subject.refresh()
    assert subject.book is not None
    assert subject.book.ruleset_id == database.snapshot.ruleset_id


def test_patience_ends_though_another_refresh_does_not(tmp_path: Path) -> None:
    """A change is answered while its worker still reads thousands of others; a poll follows."""
    first, go_on = threading.Event(), threading.Event()

    class Slow(Database):
        def other_than(self, ruleset_id: RulesetId | None) -> Snapshot | None:
            first.set()
            assert go_on.wait(10)
            return super().other_than(ruleset_id)

    subject = reloader(Slow(Snapshot(4, b"secret", (RULE,))), tmp_path)
    thread = threading.Thread(target=subject.refresh)
    thread.start()
    assert first.wait(10)
    subject.refresh(0.01)
    assert subject.book is None
    go_on.set()
    thread.join(10)
    subject.refresh(0.01)
    assert subject.book is not None


def test_a_book_that_is_replaced_is_freed_once_what_follows_has_the_new_one(tmp_path: Path) -> None:
    """Unless a caller still decides by it: then it stays whole."""
    rules = tuple(replace(RULE, id=number, client_id=f"client {number}") for number in range(1, 2 * LARGE))
    database = Database(Snapshot(1, b"secret", rules))
    subject, followed = reloader(database, tmp_path), []
    subject.then(lambda _: followed.append(subject.book))
    subject.start()
    for version in (2, 3):
        held = subject.book if version == 3 else None
        first = weakref.ref(subject.book)
        database.snapshot = Snapshot(version, b"secret", rules[1:])
        subject.refresh()
        subject.tidy()
        assert followed == [subject.book]
        assert (first() is None) == (held is None)
        followed.clear()
    assert held is not None
    assert held.match(1, "client 2", "login").id == 2
