"""The rules on disk: read back the same, refused where they are damaged or of another database."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from msgspec.structs import replace

from app.rules.api_key import ApiKey
from app.rules.rule import UNDERSTOOD, Limit, Rule
from app.rules.rule_book import Snapshot
from app.rules.sync import snapshot_file
from app.rules.sync.snapshot_file import RULES_IN_PIECE, SnapshotFile
from tests.rules.sync.reloading import KEYS, RULE, Database, reloader

T = TypeVar("T")


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
    caplog.set_level("WARNING", "app.rules.sync.snapshot_file")
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
    caplog.set_level("WARNING", "app.rules.sync.snapshot_file")
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


class OlderRule(msgspec.Struct, kw_only=True):
    """As the release before this one reads a rule."""

    id: int
    client_id: str
    limits: tuple[Limit, ...]
    tenant_id: int = 1
    endpoint: str | None = None
    action: str = "limit"
    fail_mode: str | None = None
    shadow: bool = False
    enabled: bool = True
    description: str = ""
    version: int = 1


class OlderSnapshot(msgspec.Struct):
    version: int
    key_secret: bytes
    rules: tuple[OlderRule, ...]
    keys: tuple[ApiKey, ...] = ()


class OlderFile(msgspec.Struct, kw_only=True):
    format: int
    edition: tuple[int, bytes]
    snapshot: OlderSnapshot


LIMITS = (Limit(5, 60),)
MIXED = (
    Rule(id=1, client_id="a", limits=LIMITS, description="plain"),
    Rule(id=2, client_id="a", limits=LIMITS, layer="org"),
    Rule(id=3, group="org:*", limits=LIMITS, shared=True),
    Rule(id=4, client_id="b", limits=LIMITS, fail_mode="closed"),
)


def test_the_release_before_reads_the_rules_that_it_understands(tmp_path: Path) -> None:
    """The others are beside them, and this release reads all of them in their order."""
    saved, snapshot = SnapshotFile(tmp_path / "rules.json", time.time), Snapshot(4, b"secret", MIXED, KEYS)
    saved.save(snapshot, 0)
    assert saved.read() == snapshot
    older = msgspec.json.decode((tmp_path / "rules.json").read_bytes(), type=OlderFile)
    assert [(rule.id, rule.client_id, rule.description, rule.fail_mode) for rule in older.snapshot.rules] == [
        (1, "a", "plain", None),
        (4, "b", "", "closed"),
    ]
    assert (older.format, older.edition, older.snapshot.keys) == (2, (4, b"secret"), KEYS)


def test_rules_that_a_later_release_understands_are_passed_over(tmp_path: Path) -> None:
    place = tmp_path / "rules.json"
    known, unknown = (f'{{"id":{number},"group":"org:*","limits":[]}}' for number in (2, 3))
    needing = f'"needing":{{"{UNDERSTOOD}":[{known}],"{UNDERSTOOD + 1}":[{unknown[:-1]},"burst_of":[]}}]}}'
    place.write_text(SAVED.replace("]}}", "]},%s}") % ('{"id":5,"client_id":"a","limits":[]}', needing))
    snapshot = SnapshotFile(place, time.time).read()
    assert snapshot is not None
    assert [rule.id for rule in snapshot.rules] == [2, 5]


@pytest.mark.parametrize(
    "damaged",
    [
        SAVED.replace("2", "1", 1) % "",
        SAVED % '{"id":1,"client_id":5,"limits":[{"rate":5,"window":60}]}',
        SAVED % '{"id":1,"client_id":"a","limits":[]}',
        SAVED.replace("]}}", ']},"needing":{"1":[{}]}}') % "",
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


def test_many_rules_are_encoded_in_pieces_and_not_where_the_disk_is_waited_for(tmp_path: Path) -> None:
    """A thread that encodes keeps the interpreter to itself, and checks from going on."""
    rules, elsewhere, pieces = [replace(RULE, id=number) for number in range(2 * RULES_IN_PIECE + 1)], [], []

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
