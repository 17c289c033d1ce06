"""Many rules at once, in the real tables: all of them or none."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.rules.rule import Limit
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions
from tests.support.stored import audited, changes, counters, rule


def test_a_merge_changes_what_differs_and_deletes_what_is_absent_only_when_told(session: Session) -> None:
    subject = changes(session, 2)
    kept, _ = subject.put(rule("kept", tenant_id=2))
    changed, _ = subject.put(rule("changed", Limit(5, 60), Limit(7, 3600), tenant_id=2))
    absent, _ = subject.put(rule("absent", tenant_id=2))
    sent = [
        rule("kept", tenant_id=2),
        rule("changed", Limit(7, 3600), Limit(9, 60), tenant_id=2),
        rule("new", Limit(1, 1), tenant_id=2),
        rule("new", Limit(1, 1), shadow=True, tenant_id=2),
    ]
    planned = subject.compare(sent, replace=True)
    assert planned.deleted == [absent]
    merged = subject.merge(sent)
    assert (merged.deleted, merged.unchanged) == ([], [kept])
    [(before, after)] = merged.replaced
    assert (before, after.id, after.version, counters(after)) == (changed, changed.id, 2, [2, 1])
    stored = {stored.id: stored for stored in RuleRepository(session).rules(2)}
    assert [stored[created.id] for created in merged.created] == merged.created
    assert stored[after.id] == after
    assert subject.merge(sent, replace=True).deleted == [absent]
    events = audited(session, 10, tenant_id=2)
    assert not subject.merge(sent, replace=True).changes_anything
    assert audited(session, 10, tenant_id=2) == events


def test_a_merge_that_fails_changes_nothing(session: Session, engine: Engine) -> None:
    subject = changes(session, 2)
    before = RuleRepository(session).rules(2)
    ruleset_id = RulesetVersions(session).current()
    with pytest.raises(IntegrityError):
        subject.merge([rule("m1", tenant_id=2), rule("m2", Limit(0, 60), tenant_id=2)], replace=True)
    assert (RuleRepository(session).rules(2), RulesetVersions(session).current()) == (before, ruleset_id)
