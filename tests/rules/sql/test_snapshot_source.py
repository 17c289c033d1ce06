"""Snapshots of the real tables: they are whole, and what did not change is neither read nor made again."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator

import psycopg2
import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from app.rules.rule import Limit, Rule
from app.rules.rule_book import Snapshot
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import CHANNEL, RulesetVersions
from app.rules.sql.snapshot_source import RULES_AT_ONCE, SnapshotSource
from tests.support.stored import changes, put_rule, rule


@contextlib.contextmanager
def counting(engine: Engine, table: str) -> Iterator[list[str]]:
    """The statements that read this table."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        if f"FROM {table} \n" in statement:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def by_client(snapshot: Snapshot | None) -> dict[str, Rule]:
    assert snapshot is not None
    return {found.client_id: found for found in snapshot.rules}


def by_hand(session: Session, *statements: str) -> None:
    """What an operator in a hurry does, who knows that the version has to grow."""
    for statement in (*statements, "UPDATE rule_book SET version = version + 1"):
        session.connection().exec_driver_sql(statement)
    session.commit()


def test_a_snapshot_is_what_the_repository_reads(engine: Engine, session: Session) -> None:
    for number in range(RULES_AT_ONCE + 3):
        put_rule(session, rule(f"many-{number}", Limit(5, 60, "gcra", 7), Limit(1, 1), fail_mode="local", shadow=True))
    snapshot = SnapshotSource(engine).other_than(None)
    assert snapshot is not None
    stored = RuleRepository(session).rules(1)
    assert list(snapshot.rules) == [replace(each, created_at=None, updated_at=None) for each in stored]
    assert snapshot.ruleset_id == RulesetVersions(session).current()


def test_only_what_changed_is_read_again(engine: Engine, session: Session) -> None:
    source = SnapshotSource(engine)
    stored = {name: put_rule(session, rule(name))[0] for name in ("stays", "changes", "goes")}
    first = by_client(source.other_than(None))
    put_rule(session, rule("changes", Limit(6, 60)))
    put_rule(session, rule("comes"))
    changes(session).delete(stored["goes"].id)
    with counting(engine, "all_rules") as statements:
        second = by_client(source.other_than(None))
    assert len(statements) == 1
    assert second["stays"] is first["stays"]
    assert (first["changes"].limits[0].rate, second["changes"].limits[0].rate) == (5, 6)
    assert "goes" in first
    assert {"goes", "comes"} & second.keys() == {"comes"}
    assert second == by_client(SnapshotSource(engine).other_than(None))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rule_limits SET rate = 77 WHERE rule_id = {}",
        "INSERT INTO rule_limits (rule_id, position, rate, window_seconds, counter) VALUES ({}, 1, 9, 9, 9)",
        "DELETE FROM rule_limits WHERE rule_id = {} AND position = 1",
        "UPDATE rules SET enabled = false WHERE id = {}",
    ],
)
def test_a_change_by_hand_is_noticed(engine: Engine, session: Session, change: str) -> None:
    """Of limits alone too: the rule's row, its version and its time stay as they were."""
    source = SnapshotSource(engine)
    stored, _ = put_rule(session, rule(change, Limit(5, 60), Limit(8, 8)))
    if "INSERT" in change:
        by_hand(session, f"DELETE FROM rule_limits WHERE rule_id = {stored.id} AND position = 1")
    before = by_client(source.other_than(None))[change]
    by_hand(session, change.format(stored.id))
    after = by_client(source.other_than(None))[change]
    assert after != before
    assert after == by_client(SnapshotSource(engine).other_than(None))[change]


def test_another_database_shares_no_rule_with_the_first(engine: Engine, session: Session) -> None:
    source = SnapshotSource(engine)
    put_rule(session, rule("of this one"))
    before = by_client(source.other_than(None))["of this one"]
    by_hand(session, "UPDATE rule_book SET key_secret = 'ff'")
    assert by_client(source.other_than(None))["of this one"] is not before


def test_a_change_is_announced_when_it_is_committed_and_not_before(engine: Engine, session: Session) -> None:
    with contextlib.closing(psycopg2.connect(engine.url.render_as_string(hide_password=False))) as listener:
        listener.autocommit = True
        cursor = listener.cursor()
        cursor.execute(f"LISTEN {CHANNEL}")
        RulesetVersions(session).bump()
        session.flush()
        cursor.execute("SELECT 1")
        assert listener.notifies == []
        session.rollback()
        cursor.execute("SELECT 1")
        assert listener.notifies == []
        put_rule(session, rule("announced"))
        assert select.select([listener], [], [], 10)[0]
        listener.poll()
        assert len(listener.notifies) == 1
