"""The reloader: last good rules whatever happens, and those of the disk when there is no database at the start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from app.rules.api_key import ApiKey
from app.rules.reload import RuleReloader
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import Edition, RuleBook, Snapshot
from app.rules.snapshot_file import SnapshotFile

RULE = Rule(id=3, client_id="a", endpoint="login", limits=(Limit(5, 60, "gcra", 7, 2), Limit(1, 1)), fail_mode="closed")

KEYS = (
    ApiKey(id="abcd1234", tenant_id=2, name="one", digest=bytes(32), scopes=frozenset({"check", "rules:read"})),
    ApiKey(id="efgh5678", tenant_id=1, name="two", digest=bytes(32), scopes=frozenset({"check"}), expires_at=5.5),
)


class Database:
    """A source that holds one snapshot, or is down."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot

    def other_than(self, edition: Edition | None) -> Snapshot | None:
        if self.snapshot is None:
            raise ConnectionError("the database is down")
        return None if self.snapshot.edition == edition else self.snapshot


def build(snapshot: Snapshot) -> RuleBook:
    if any(rule.client_id == "bad" for rule in snapshot.rules):
        raise ValueError("a bad row")
    return RuleBook(snapshot, default=default_rule(100, 60), algorithm="gcra")


def reloader(database: Database, path: Path, now: list[float] | None = None) -> RuleReloader:
    clock = now or [50.0]
    return RuleReloader(source=database, saved=SnapshotFile(path / "rules.json"), build=build, clock=lambda: clock[0])


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
    assert SnapshotFile(tmp_path / "rules.json").read() == database.snapshot


def test_the_saved_snapshot_is_the_same_again_and_its_owners_alone(tmp_path: Path) -> None:
    saved = SnapshotFile(tmp_path / "new" / "rules.json")
    snapshot = Snapshot(4, bytes(range(32)), (RULE,), keys=KEYS, key_hash_secret=b"of the keys")
    saved.write(snapshot)
    assert saved.read() == snapshot
    assert stat.S_IMODE((tmp_path / "new" / "rules.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rules.json"]


def test_a_file_of_the_first_format_has_no_keys_yet(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"format": 1, "version": 4, "key_secret": "00", "rules": []}')
    assert SnapshotFile(tmp_path / "rules.json").read() == Snapshot(4, b"\0", ())


def test_without_the_database_the_saved_rules_decide(tmp_path: Path) -> None:
    reloader(Database(Snapshot(4, b"secret", (RULE,))), tmp_path).start()
    subject = reloader(Database(None), tmp_path)
    subject.start()
    assert subject.book is not None
    assert subject.book.match(1, "a", "login").id == 3
    assert (subject.freshness().database_available, subject.freshness().age_seconds) == (False, None)


def test_without_database_and_saved_rules_there_is_no_book(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"format": 1, "version": 4')
    subject = reloader(Database(None), tmp_path)
    subject.start()
    assert subject.book is None
    subject._source.snapshot = Snapshot(1, b"", ())  # type: ignore[attr-defined]
    subject.refresh()
    assert subject.book is not None


def test_a_failure_or_a_bad_row_leaves_the_last_good_rules_and_shows_their_age(tmp_path: Path) -> None:
    now = [50.0]
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path, now)
    subject.start()
    for snapshot in (None, Snapshot(5, b"secret", (Rule(id=1, client_id="bad", limits=()),))):
        database.snapshot = snapshot
        now[0] += 10
        subject.refresh()
        assert subject.freshness().version == 4
    assert (subject.freshness().age_seconds, subject.freshness().database_available) == (20, False)


def test_another_database_at_the_same_version_is_another_edition(tmp_path: Path) -> None:
    database = Database(Snapshot(4, b"secret", (RULE,)))
    subject = reloader(database, tmp_path)
    subject.start()
    database.snapshot = Snapshot(4, b"of another database", ())
    subject.refresh()
    assert subject.book is not None
    assert subject.book.edition == database.snapshot.edition


@pytest.mark.parametrize(
    "damaged",
    [
        '{"format": 1, "version": 4, "key_secret": "00", "rules": [{"id": 1, "client_id": 5, "limits": []}]}',
        '{"format": 1, "version": "x", "key_secret": "00", "rules": []}',
        '{"format": 1, "version": 4, "key_secret": "zz", "rules": []}',
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
    assert subject.freshness().version == 4
    assert list(tmp_path.iterdir()) == []
