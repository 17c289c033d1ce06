"""Changes in the real tables: what they keep and leave behind, and that they wait for one another."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.rules.documents import document_of
from app.rules.errors import Conflict, NotFound, Stale
from app.rules.examples import EXAMPLES
from app.rules.rule import Limit
from app.rules.sql.changes import load_examples
from app.rules.sql.history import AuditFilter, History
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions
from app.rules.sql.snapshot_source import SnapshotSource
from tests.support.stored import audited, changes, counters, put_rule, rule


def test_creating_then_replacing_keeps_the_id_and_raises_the_version(session: Session) -> None:
    first, created = put_rule(session, rule("a", description="one"))
    second, created_again = put_rule(session, rule("a", description="two"))
    assert (created, created_again) == (True, False)
    assert (second.id, first.version, second.version, second.description) == (first.id, 1, 2, "two")
    assert second.updated_at is not None
    assert first.updated_at is not None
    assert second.updated_at > first.updated_at
    assert second.created_at == first.created_at


def test_a_shadow_stands_beside_the_rule_it_tries_a_change_of(session: Session) -> None:
    enforced, _ = put_rule(session, rule("b3"))
    shadow, created = put_rule(session, rule("b3", shadow=True))
    assert created
    assert shadow.id != enforced.id
    assert RuleRepository(session).get(1, enforced.id) == enforced


def test_a_rule_created_after_a_deletion_has_another_id(session: Session) -> None:
    first, _ = put_rule(session, rule("d"))
    changes(session).delete(first.id)
    with pytest.raises(NotFound):
        changes(session).delete(first.id)
    second, _ = put_rule(session, rule("d"))
    assert second.id != first.id


def test_a_tenant_cannot_change_what_is_not_its_own(session: Session) -> None:
    stored, _ = put_rule(session, rule("e"))
    for attempt in (changes(session, 2).delete, lambda number: changes(session, 2).edit(number, lambda r: r)):
        with pytest.raises(NotFound):
            attempt(stored.id)
    assert RuleRepository(session).get(1, stored.id) == stored


def test_a_change_for_a_tenant_that_was_deleted_meanwhile_is_refused(session: Session) -> None:
    """Its keys are known to the workers for another moment."""
    before = RulesetVersions(session).current()
    with pytest.raises(Conflict, match="deleted"):
        changes(session, 99).put(rule("e", tenant_id=99))
    assert RulesetVersions(session).current() == before


def test_every_change_is_a_new_version_of_all_rules(session: Session, engine: Engine) -> None:
    source = SnapshotSource(engine)
    before = source.other_than(None)
    assert before is not None
    assert source.other_than(before.ruleset_id) is None
    assert source.other_than(before.ruleset_id._replace(key_secret=b"another database")) == before
    assert source.other_than(before.ruleset_id._replace(drawn="of the same database before it was restored")) == before
    put_rule(session, rule("f"))
    after = source.other_than(before.ruleset_id)
    assert after is not None
    assert (after.version, after.key_secret) == (before.version + 1, before.key_secret)
    assert len(after.key_secret) == 32
    assert len({before.drawn, after.drawn, ""}) == 3


def test_examples_are_loaded_once_and_a_deleted_one_stays_deleted(session: Session) -> None:
    assert load_examples(session) == len(EXAMPLES)
    login = next(example for example in EXAMPLES if example.endpoint == "login")
    victim = RuleRepository(session).twin(login)
    assert victim is not None
    changes(session).delete(victim.id)
    assert load_examples(session) == 0
    assert RuleRepository(session).twin(login) is None


def test_changes_at_the_same_time_all_count(session: Session, engine: Engine) -> None:
    stored, _ = put_rule(session, rule("g"))
    together = threading.Barrier(8)

    def change(number: int) -> None:
        with Session(engine) as own:
            together.wait(10)
            for _ in range(5):
                put_rule(own, replace(stored, description=str(number)))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    session.expire_all()
    found = RuleRepository(session).get(1, stored.id)
    assert found is not None
    assert found.version == stored.version + 40


def test_every_change_leaves_a_version_and_an_audit_event(session: Session) -> None:
    subject = changes(session)
    first, _ = subject.put(rule("v", Limit(5, 60)))
    subject.put(rule("v", Limit(6, 60)))
    subject.edit(first.id, lambda current: replace(current, description="edited"))
    rolled_back = subject.roll_back(first.id, 1)
    assert (rolled_back.version, document_of(rolled_back)) == (4, document_of(first))
    rows, total = History(session, 1).versions(first.id, 0, 10)
    assert [(row.version, row.action, row.actor) for row in rows] == [
        (4, "rule.rollback", "tester"),
        (3, "rule.update", "tester"),
        (2, "rule.replace", "tester"),
        (1, "rule.create", "tester"),
    ]
    assert total == 4
    subject.delete(first.id)
    name = f"rule {first.id}"
    actions = ["rule.delete", "rule.rollback", "rule.update", "rule.replace", "rule.create"]
    assert audited(session, 5) == [(action, name) for action in actions]
    [deletion], _ = History(session, 1).events(AuditFilter(correlation_id="correlation-1", subject=name), 0, 1)
    assert deletion.before == {"id": first.id, "version": 4} | document_of(first)
    assert deletion.after is None


def test_rolling_back_to_a_version_that_is_not_there_changes_nothing(session: Session) -> None:
    stored, _ = put_rule(session, rule("w"))
    with pytest.raises(NotFound, match="no version 7"):
        changes(session).roll_back(stored.id, 7)
    assert RuleRepository(session).get(1, stored.id) == stored


def test_a_change_meant_for_another_version_is_refused(session: Session) -> None:
    stored, _ = put_rule(session, rule("x"))
    for attempt in (
        lambda: changes(session).delete(stored.id, lambda current: False),
        lambda: changes(session).put(rule("x"), lambda current: False),
        lambda: changes(session).put(rule("x-new"), lambda current: current is not None),
    ):
        with pytest.raises(Stale):
            attempt()
    assert RuleRepository(session).get(1, stored.id) == stored


def test_an_edit_cannot_make_two_rules_for_the_same_client_and_endpoint(session: Session) -> None:
    first, _ = put_rule(session, rule("y"))
    second, _ = put_rule(session, rule("y2"))
    with pytest.raises(Conflict, match=f"rule {first.id} "):
        changes(session).edit(second.id, lambda current: replace(current, client_id="y"))
    renamed = changes(session).edit(second.id, lambda current: replace(current, client_id="y3", endpoint="e"))
    assert (renamed.id, counters(renamed)) == (second.id, counters(second))
    assert RuleRepository(session).get(1, second.id) == renamed
