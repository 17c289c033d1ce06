"""The reloader: last good rules whatever happens, and those of the disk when there is no database at the start."""

from __future__ import annotations

import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from app.rules import snapshot_file
from app.rules.api_key import ApiKey
from app.rules.reload import CONFIRM_SECONDS, SAVE_AGAIN_SECONDS, Freshness, RuleReloader
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import LARGE, Edition, RuleBook, Snapshot
from app.rules.snapshot_file import PIECE, SnapshotFile

T = TypeVar("T")

RULE = Rule(id=3, client_id="a", endpoint="login", limits=(Limit(5, 60, "gcra", 7, 2), Limit(1, 1)), fail_mode="closed")

KEYS = (
    ApiKey(id="abcd1234", tenant_id=2, name="one", digest=bytes(32), scopes=frozenset({"check", "rules:read"})),
    ApiKey(id="efgh5678", tenant_id=1, name="two", digest=bytes(32), scopes=frozenset({"check"}), expires_at=5.5),
    ApiKey(id="ijkl9012", tenant_id=1, name="three", digest=bytes(32), scopes=frozenset(), owner="two (efgh5678)"),
)


class Database:
    """A source that holds one snapshot, or is down."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot

    def other_than(self, edition: Edition | None) -> Snapshot | None:
        if self.snapshot is None:
            raise ConnectionError("the database is down\n(see the manual)")
        return None if self.snapshot.edition == edition else self.snapshot


def build(snapshot: Snapshot, *, previous: RuleBook | None) -> RuleBook:
    return RuleBook(snapshot, default=default_rule(100, 60), algorithm="gcra", previous=previous)


def reloader(database: Database, path: Path, now: list[float] | None = None) -> RuleReloader:
    clock = now or [50.0]
    return RuleReloader(
        source=database, saved=SnapshotFile(path / "rules.json", time.time), build=build, clock=lambda: clock[0]
    )


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


def test_the_saved_snapshot_is_the_same_again_and_its_owners_alone(tmp_path: Path) -> None:
    saved = SnapshotFile(tmp_path / "new" / "rules.json", time.time)
    said = {"keys": KEYS, "key_hash_secret": b"of the keys", "tenants": {"default": 1}}
    snapshot = Snapshot(4, bytes(range(32)), (RULE,), **said, drawn="ab" * 16)
    saved.save(snapshot, 0)
    assert saved.read() == snapshot
    assert stat.S_IMODE((tmp_path / "new" / "rules.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rules.json"]


def test_what_another_worker_of_the_node_has_saved_is_not_written_again(tmp_path: Path) -> None:
    first, second = (SnapshotFile(tmp_path / "rules.json", time.time) for _ in range(2))
    first.save(Snapshot(4, b"secret", (RULE,)), 0)
    written = (tmp_path / "rules.json").stat().st_ino
    second.save(Snapshot(4, b"secret", (RULE,)), 0)
    assert (tmp_path / "rules.json").stat().st_ino == written
    again = Snapshot(4, b"secret", (), drawn="of a database that was restored")
    for other in (again, Snapshot(4, b"another", ()), Snapshot(40, b"another", ())):
        second.save(other, 0)
        assert first.read() == other


def test_without_the_database_the_saved_rules_decide(tmp_path: Path) -> None:
    earlier = reloader(Database(Snapshot(4, b"secret", (RULE,))), tmp_path)
    earlier.start()
    earlier.save()
    subject = reloader(Database(None), tmp_path)
    subject.start()
    assert subject.book is not None
    assert subject.book.match(1, "a", "login").id == 3
    assert not subject.freshness().database_available


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


def test_many_rules_are_encoded_in_pieces_and_not_where_the_disk_is_waited_for(tmp_path: Path) -> None:
    """A thread that encodes keeps the interpreter to itself, and checks from going on."""
    rules, elsewhere, pieces = [replace(RULE, id=number) for number in range(2 * PIECE + 1)], [], []

    def pace(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            assert not elsewhere
            pieces.append(item)
            yield item

    def run(work: Callable[[], T]) -> T:
        elsewhere.append(work)
        try:
            return work()
        finally:
            elsewhere.clear()

    saved = SnapshotFile(tmp_path / "rules.json", time.time, pace=pace)
    for snapshot in (Snapshot(4, b"secret", tuple(rules), KEYS, tenants={"a": 1}), Snapshot(5, b"secret", ())):
        saved.save(snapshot, 0, run)
        assert saved.read() == snapshot
    assert len(pieces) >= 3


def test_what_is_in_the_place_of_the_file_is_put_aside(tmp_path: Path) -> None:
    """As a container runtime makes a directory for a file to mount that is not there."""
    place = tmp_path / "rules.json"
    (place / "somebody's").mkdir(parents=True)
    saved = SnapshotFile(place, lambda: 5_000.0)
    assert (saved.read(), saved.age_seconds()) == (None, None)
    saved.save(Snapshot(4, b"secret", (RULE,)), 100.0)
    assert (saved.read(), saved.age_seconds()) == (Snapshot(4, b"secret", (RULE,)), 100)
    [aside] = tmp_path.glob("rules.json?*")
    assert (aside / "somebody's").is_dir()


def test_rules_of_another_database_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "app.rules.snapshot_file")
    place, snapshot = tmp_path / "rules.json", Snapshot(4, b"secret", (RULE,))
    here, there = (SnapshotFile(place, time.time, f"db:5432/{name}") for name in ("here", "there"))
    there.save(snapshot, 0)
    assert (there.read(), here.read()) == (snapshot, None)
    assert caplog.messages == ["the saved rules are not used: they are of db:5432/there, not of db:5432/here"]
    here.save(snapshot, 0)
    assert here.read() == snapshot


def test_rules_saved_by_the_next_release_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those of this one by the next: only a new format keeps an older release from reading."""
    place, snapshot = tmp_path / "rules.json", Snapshot(4, b"secret", (RULE,))
    with monkeypatch.context() as later:
        later.setattr(snapshot_file, "REVISION", snapshot_file.REVISION + 1)
        SnapshotFile(place, time.time).save(snapshot, 0)
    assert SnapshotFile(place, time.time).read() == snapshot
    with monkeypatch.context() as later:
        SnapshotFile(place, time.time).save(snapshot, 0)
        later.setattr(snapshot_file, "REVISION", snapshot_file.REVISION + 1)
        assert SnapshotFile(place, time.time).read() == snapshot


def test_rules_of_another_server_decide_and_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database may have moved, or be away under another address."""
    caplog.set_level("WARNING", "app.rules.snapshot_file")
    place, snapshot = tmp_path / "rules.json", Snapshot(4, b"secret", (RULE,))
    SnapshotFile(place, time.time, "old:5432/limiter").save(snapshot, 0)
    assert SnapshotFile(place, time.time, "new:5432/limiter").read() == snapshot
    [said] = caplog.messages
    assert said.endswith("although they are of old:5432/limiter, not of new:5432/limiter")


def test_a_file_with_one_wrong_digit_is_not_read_and_is_written_again(tmp_path: Path) -> None:
    place, snapshot = tmp_path / "rules.json", Snapshot(4, b"secret", (RULE,))
    saved = SnapshotFile(place, time.time)
    saved.save(snapshot, 0)
    whole = place.read_text()
    for damaged in (whole.replace('"rate":5', '"rate":6'), whole[:-1], whole + " ", ""):
        assert damaged != whole
        place.write_text(damaged)
        assert saved.read() is None
        saved.save(snapshot, 0)
        assert place.read_text() == whole


def test_rules_stay_unsaved_until_the_disk_has_taken_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "app.rules.reload")
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


def test_a_restored_database_that_reaches_the_same_version_is_another_edition(tmp_path: Path) -> None:
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
    caplog.set_level("WARNING", "app.rules.reload")
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
    with caplog.at_level("ERROR", logger="app.rules.reload"):
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
        def other_than(self, edition: Edition | None) -> Snapshot | None:
            asked.append(edition)
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


def test_patience_ends_though_another_refresh_does_not(tmp_path: Path) -> None:
    """A change is answered while its worker still reads thousands of others; a poll follows."""
    first, go_on = threading.Event(), threading.Event()

    class Slow(Database):
        def other_than(self, edition: Edition | None) -> Snapshot | None:
            first.set()
            assert go_on.wait(10)
            return super().other_than(edition)

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


def test_another_database_at_the_same_version_is_another_edition(tmp_path: Path) -> None:
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path)
    subject.start()
    database.snapshot = Snapshot(4, b"of another database", ())
    subject.refresh()
    assert subject.book is not None
    assert subject.book.edition == database.snapshot.edition


SAVED = '{"format":2,"edition":[4,"AAAA"],"snapshot":{"version":4,"key_secret":"AAAA","rules":[%s]}}'


def test_the_form_of_the_saved_file(tmp_path: Path) -> None:
    """What the damaged ones below differ from."""
    rule = '{"id":1,"client_id":"a","limits":[{"rate":5,"window":60}]}'
    (tmp_path / "rules.json").write_text(SAVED % rule)
    expected = Snapshot(4, bytes(3), (Rule(id=1, client_id="a", limits=(Limit(5, 60),)),))
    assert SnapshotFile(tmp_path / "rules.json", time.time).read() == expected


def test_a_file_of_the_version_before_is_read_and_then_written_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(SAVED % "")
    saved = SnapshotFile(tmp_path / "rules.json", time.time)
    old = saved.read()
    assert old == Snapshot(4, bytes(3), ())
    saved.save(Snapshot(4, bytes(3), (), keys=KEYS, tenants={"default": 1}), 0)
    new = saved.read()
    assert new is not None
    assert (new.keys, new.tenants) == (KEYS, {"default": 1})
    assert (tmp_path / "rules.json").read_text().startswith('{"format":2,"edition":[4,"AAAA"],')  # as before, for it


@pytest.mark.parametrize(
    "damaged",
    [
        SAVED.replace("2", "1", 1) % "",
        SAVED % '{"id":1,"client_id":5,"limits":[{"rate":5,"window":60}]}',
        SAVED % '{"id":1,"client_id":"a","limits":[]}',
        SAVED % '{"id":1,"client_id":"a","limits":[{"rate":5,"window":60,"algorithm":"leaky"}]}',
        SAVED.replace('"key_secret":"AAAA"', '"key_secret":"é"') % "",
        "[" * 100_000,
    ],
)
def test_a_damaged_file_does_not_keep_the_node_from_coming_up(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "rules.json").write_text(damaged)
    database = Database(None)
    subject = reloader(database, tmp_path)
    subject.start()
    assert subject.book is None
    database.snapshot = Snapshot(1, b"", ())
    subject.refresh()
    assert subject.book is not None


def test_a_file_that_cannot_be_written_leaves_nothing_behind_and_the_rules_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    subject = reloader(Database(Snapshot(4, b"secret", (RULE,))), tmp_path)
    subject.start()
    subject.save()
    assert subject.freshness().version == 4
    assert list(tmp_path.iterdir()) == []


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
