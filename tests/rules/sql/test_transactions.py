"""Changes beside one another: those of one tenant keep no other tenant's waiting, whatever takes them long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

from app.rules.errors import Busy
from app.rules.rule import Rule
from app.rules.sql.access.api_keys import ApiKeys
from app.rules.sql.access.tenants import RULES_AT_ONCE, Tenants
from app.rules.sql.changes import RuleChanges
from app.rules.sql.database import transactions
from app.rules.sql.database.transactions import KEYS, LOCKS, exclude, versioned_transaction
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions
from app.rules.sql.snapshot_source import SnapshotSource
from tests.support.stored import AUTHOR, changes, put_rule, rule

Inside = Callable[[], None]
Long = Callable[[Session, Inside], object]

RULES = [rule(f"long {number}") for number in range(300)]


def _paced(session: Session, inside: Inside) -> RuleChanges:
    """Changes of the first tenant that meet `inside` at each rule that they take up."""

    def pace(items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            inside()
            yield item

    return RuleChanges(session, 1, AUTHOR, pace)


def _import(session: Session, inside: Inside) -> None:
    _paced(session, inside).merge(RULES)


def _replace(session: Session, inside: Inside) -> None:
    changes(session).merge(RULES)
    _paced(session, inside).merge([replace(each, description="new") for each in RULES[:100]], replace=True)


def _anything(session: Session, inside: Inside) -> None:
    """What resets counters, for instance, asks Redis inside."""
    with versioned_transaction(session, 1):
        inside()


LONG: dict[str, Long] = {"an import": _import, "an import that replaces": _replace, "any other": _anything}


@pytest.mark.parametrize("long", LONG.values(), ids=LONG)
def test_a_long_change_of_one_tenant_keeps_no_other_from_changing(long: Long, session: Session, engine: Engine) -> None:
    """What others change is changed and in force while it is still inside, at several points of it."""
    source, met, blocks = SnapshotSource(engine), 0, list[Rule]()
    impatient = create_engine(engine.url, connect_args={"options": "-c lock_timeout=500"})

    def inside() -> None:
        nonlocal met
        met += 1
        if met % 300 != 1:
            return
        with Session(impatient) as other:
            blocks.extend(changes(other, 2).block(f"attacker {len(blocks)}").created)
            key, _ = ApiKeys(other, None).create(2, "a key", ["check"], None, AUTHOR)
            ApiKeys(other, None).revoke(key.id, AUTHOR)
            tenants = Tenants(other)
            tenants.delete(tenants.create("short-lived", AUTHOR).id, AUTHOR)
        snapshot = source.other_than(None)
        assert snapshot is not None
        assert blocks[-1].client_id in {each.client_id for each in snapshot.rules}

    long(session, inside)
    assert len(blocks) >= (1 if long is _anything else 3)
    with Session(impatient) as other:
        changes(other, 2).merge([], replace=True)
    impatient.dispose()


def test_deleting_a_tenant_keeps_out_changes_of_keys_only_when_its_rules_are_gone(
    session: Session, engine: Engine
) -> None:
    """It takes several statements where there are many rules, none of them longer than a statement may be."""
    tenant_id = Tenants(session).create("large", AUTHOR).id
    numbers = "FROM generate_series(1, :count) AS number"
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO rules (tenant_id, client_id) SELECT :tenant, 'c' || number {numbers}"),
            {"tenant": tenant_id, "count": 2 * RULES_AT_ONCE + 1},
        )
    meanwhile = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM all_rules"):
            with Session(others) as other:
                meanwhile.append(ApiKeys(other, None).create(2, "a key", ["check"], None, AUTHOR))

    others = create_engine(engine.url)
    event.listen(engine, "before_cursor_execute", note)
    try:
        Tenants(session).delete(tenant_id, AUTHOR)
    finally:
        event.remove(engine, "before_cursor_execute", note)
        others.dispose()
    assert len(meanwhile) == 3
    assert RuleRepository(session).count(tenant_id) == 0
    assert Tenants(session).named("large") is None


def test_a_change_that_waits_for_its_turn_holds_no_connection(session: Session, engine: Engine) -> None:
    """A worker has few: waiting changes of one tenant would keep those of another from having one."""
    small = create_engine(engine.url, pool_size=1, max_overflow=0)
    gave_up, stored = threading.Event(), list[Rule]()
    event.listen(small, "rollback", lambda _: gave_up.set())

    def change() -> None:
        with Session(small) as own:
            stored.append(put_rule(own, rule("waits"))[0])

    waiting = [threading.Thread(target=change) for _ in range(3)]
    with versioned_transaction(session, 1):
        for thread in waiting:
            thread.start()
        assert gave_up.wait(20)
        with Session(small) as other:
            assert put_rule(other, rule("does not wait", tenant_id=2))[1]
        assert stored == []
    for thread in waiting:
        thread.join(20)
    assert {each.id for each in stored} == {stored[0].id}
    assert sorted(each.version for each in stored) == [1, 2, 3]
    small.dispose()


def test_a_change_whose_turn_does_not_come_says_so(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "TRIES", 3)
    with versioned_transaction(session, 1), Session(engine) as other, pytest.raises(Busy, match="another change"):
        put_rule(other, rule("too late"))
    put_rule(session, rule("too late"))


def test_a_change_outwaits_a_node_of_an_older_release(session: Session, engine: Engine) -> None:
    """Which holds the version from the beginning of its change; what this one did before is not lost."""
    impatient = create_engine(engine.url, connect_args={"options": "-c lock_timeout=500"})
    gave_up, stored = threading.Event(), list[Rule]()
    event.listen(impatient, "rollback_savepoint", lambda *_: gave_up.set())

    def change() -> None:
        with Session(impatient) as own:
            stored.append(put_rule(own, rule("outwaits"))[0])

    version = RulesetVersions(session).bump()
    waiting = threading.Thread(target=change)
    waiting.start()
    assert gave_up.wait(20)
    assert stored == []
    session.commit()
    waiting.join(20)
    assert RuleRepository(session).get(1, stored[0].id) == stored[0]
    assert RulesetVersions(session).current().version == version + 1
    impatient.dispose()


def test_what_is_rolled_back_inside_is_no_new_version(session: Session) -> None:
    put_rule(session, rule("same"))
    before = RulesetVersions(session).current()
    session.rollback()
    assert not changes(session).merge([rule("same")]).changes_anything
    assert RulesetVersions(session).current() == before


def _impatient(engine: Engine) -> Engine:
    return create_engine(engine.url, connect_args={"options": "-c lock_timeout=100 -c deadlock_timeout=50"})


def test_a_lock_that_another_change_keeps_means_busy(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is the version, which a node of an older release keeps, or what `exclude` waits for."""
    monkeypatch.setattr(transactions, "VERSION_TRIES", 2)
    impatient = _impatient(engine)
    with Session(impatient) as other:
        RulesetVersions(session).bump()
        with pytest.raises(Busy, match="another change"):
            put_rule(other, rule("too late for a version"))
        session.rollback()
        with (
            versioned_transaction(session, KEYS),
            pytest.raises(Busy, match="another change"),
            versioned_transaction(other, 1),
        ):
            exclude(other, KEYS)
        assert put_rule(other, rule("in time"))[1]
    impatient.dispose()


def test_a_deadlock_is_tried_again_once_and_then_means_busy(session: Session, engine: Engine) -> None:
    """With a change that holds the version and waits for this one, which has only PostgreSQL to end it."""
    impatient, raised, waits = _impatient(engine), list[BaseException](), threading.Event()
    patient = create_engine(engine.url, connect_args={"options": "-c lock_timeout=0 -c deadlock_timeout=100000"})

    def hold() -> None:
        with Session(patient) as other:
            RulesetVersions(other).bump()
            waits.set()
            other.execute(text(f"SELECT pg_advisory_xact_lock({LOCKS}, 1)"))

    holding = threading.Thread(target=hold)
    deadlocks = list[str]()
    event.listen(impatient, "handle_error", lambda context: deadlocks.append(type(context.original_exception).__name__))
    with Session(impatient) as own:
        own.execute(text("SET lock_timeout = 0"))
        own.commit()
        try:
            with versioned_transaction(own, 1):
                holding.start()
                assert waits.wait(20)
                _await_waiting(session)
        except Busy as busy:
            raised.append(busy)
    holding.join(20)
    assert len(raised) == 1
    assert deadlocks == ["DeadlockDetected"] * 2
    for each in (impatient, patient):
        each.dispose()


def _await_waiting(session: Session) -> None:
    """Until somebody waits for the lock of a tenant."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    for _ in range(2000):
        if session.execute(waiting).scalar_one():
            break
        session.rollback()
    else:
        pytest.fail("nobody waits")
    session.rollback()
