"""Long work comes in pieces: however many rules there are, little runs between two chances for checks."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sql.changes import RuleChanges
from app.rules.sql.snapshot_source import SnapshotSource
from app.rules.sync.yielding import LET_GO, let_go, unpaced
from tests.support.steps import Steps
from tests.support.stored import AUTHOR, rule

COUNT = 4_000
# Lines between two chances. A part of an answer of the database has 500 rows; of what is not in pieces each of the
# rules is a line or more.
MOST = 3_000
RULES = [rule(f"client {number}", endpoint="login" if number % 3 else None) for number in range(COUNT)]
CHANGED = [replace(each, limits=(Limit(6, 60), Limit(100, 3600))) for each in RULES]


class Thing:
    pass


def test_collections_are_let_go_some_items_at_a_time() -> None:
    freed, most = 0, 0

    def free(_: object) -> None:
        nonlocal freed
        freed += 1

    def pace(items: Iterable[Any]) -> Iterator[Any]:
        nonlocal freed, most
        for item in items:
            yield item
            freed, most = 0, max(most, freed)

    things, more = [Thing() for _ in range(5 * LET_GO + 1)], {number: Thing() for number in range(5 * LET_GO)}
    watched = [weakref.ref(thing, free) for thing in (*things, *more.values())]
    let_go(pace, things, more)
    assert (things, more, most) == ([], {}, LET_GO)
    assert all(one() is None for one in watched)


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_imports_and_what_workers_read_of_them_come_in_pieces(session: Session, engine: Engine, steps: Steps) -> None:
    """All new, all changed, some changed, all deleted: each stored, read again and made into a book."""
    changes, source = RuleChanges(session, 1, AUTHOR, steps), SnapshotSource(engine, steps)
    book: RuleBook | None = None
    for sent in (RULES, CHANGED, [*RULES[:100], *CHANGED[100:]], []):
        with steps:
            merge = changes.merge(sent, replace=True)
        with steps:
            snapshot = source.other_than(book.ruleset_id if book else None)
            assert snapshot is not None
            before = book
            book = RuleBook(snapshot, default=default_rule(100, 60), algorithm="gcra", previous=before, pace=steps)
        assert len(snapshot.rules) == len(sent)
        assert merge.changes_anything
        assert steps.longest < MOST, steps.where


def test_rules_that_stay_are_the_same_objects_and_rules_that_went_are_forgotten(
    session: Session, engine: Engine
) -> None:
    changes, source = RuleChanges(session, 1, AUTHOR), SnapshotSource(engine)

    def read() -> dict[str, Rule]:
        snapshot = source.other_than(None)
        assert snapshot is not None
        assert [each.id for each in snapshot.rules] == sorted(each.id for each in snapshot.rules)
        return {each.client_id: each for each in snapshot.rules}

    changes.merge([rule("a"), rule("b"), rule("c")], replace=True)
    before = read()
    changes.merge([rule("a"), rule("b", Limit(7, 60)), rule("d")], replace=True)
    after = read()
    assert after.keys() == {"a", "b", "d"}
    assert after["a"] is before["a"]
    assert after["b"].limits[0].rate == 7
    changes.merge([], replace=True)
    assert read() == {}


def test_a_book_that_is_let_go_leaves_the_next_one_whole() -> None:
    rules = tuple(replace(each, id=number + 1) for number, each in enumerate([*RULES, rule("ip:10.0.0.0/8")]))
    first = RuleBook(Snapshot(1, b"", rules), default=default_rule(100, 60), algorithm="gcra")
    book = RuleBook(Snapshot(2, b"", rules), default=default_rule(100, 60), algorithm="gcra", previous=first)
    parts = first.large_parts(unpaced)
    assert len(parts) >= 2
    let_go(unpaced, *parts)
    assert book.match(1, "client 0", "x").id == 1
    assert book.match(1, "client 1", "login").id == 2
    assert book.match(1, "ip:10.1.2.3", "x").id == COUNT + 1
