"""Rules for groups, in layers and with shared counters, in the real tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.rules.documents import document_of
from app.rules.errors import Conflict, NotFound
from app.rules.rule import LAYERED, PLAIN, UNDERSTOOD, Limit, Rule
from app.rules.sql.history import AuditFilter, History
from app.rules.sql.repository import RuleRepository
from app.rules.sql.snapshot_source import SnapshotSource
from tests.support.stored import changes, put_rule, rule

KINDS: list[dict[str, Any]] = [
    {"client_id": "a"},
    {"client_id": "a", "layer": "org"},
    {"client_id": "a", "shadow": True, "layer": "org"},
    {"client_id": "a", "endpoint": "login", "layer": "org"},
    {"group": "a"},
    {"group": "a", "layer": "org"},
    {"group": "a", "endpoint": "login", "shared": True},
]


def of_group(group: str, **fields: Any) -> Rule:
    return rule("", group=group, **fields)


def seen_by_nodes(engine: Engine) -> dict[int, Rule]:
    snapshot = SnapshotSource(engine).other_than(None)
    assert snapshot is not None
    return {rule.id: rule for rule in snapshot.rules}


def test_rules_of_different_layers_and_owners_stand_beside_each_other(session: Session, engine: Engine) -> None:
    made = [put_rule(session, rule(**{"client_id": ""} | kind)) for kind in KINDS]
    assert [new for _, new in made] == [True] * len(KINDS)
    again = [put_rule(session, replace(stored, limits=(Limit(9, 60),))) for stored, _ in made]
    assert [(stored.id, new) for stored, new in again] == [(stored.id, False) for stored, _ in made]
    for stored, _ in again:
        assert RuleRepository(session).get(1, stored.id) == stored
        assert seen_by_nodes(engine)[stored.id] == replace(stored, created_at=None, updated_at=None)
    merge = changes(session).merge([stored for stored, _ in made])
    assert [len(part) for part in merge.lists()] == [0, len(KINDS), 0, 0, 0]


def test_an_older_node_sees_the_plain_rules_alone(session: Session) -> None:
    needs = {}
    for kind in KINDS:
        stored, _ = put_rule(session, rule(**{"client_id": ""} | kind, tenant_id=2))
        needs[stored.id] = stored.needs
    visible = set(session.execute(text("SELECT id FROM rules WHERE tenant_id = 2")).scalars())
    assert visible == {rule_id for rule_id, needed in needs.items() if needed == PLAIN}
    assert set(needs.values()) == {PLAIN, LAYERED}


def test_a_version_from_before_layers_is_restored_with_the_defaults(session: Session) -> None:
    stored, _ = put_rule(session, rule("old"))
    session.execute(
        text("UPDATE rule_versions SET document = document - 'layer' - 'group' - 'shared' WHERE rule_id = :id"),
        {"id": stored.id},
    )
    session.commit()
    changes(session).edit(stored.id, lambda now: replace(now, client_id="", group="g", layer="org", shared=True))
    assert document_of(changes(session).roll_back(stored.id, 1)) == document_of(stored)


def test_the_audit_is_found_by_group(session: Session) -> None:
    stored, _ = put_rule(session, of_group("org:audited"))
    put_rule(session, rule("org:audited"))
    changes(session).delete(stored.id)
    events, total = History(session, 1).events(AuditFilter(group="org:audited"), 0, 9)
    assert [(event.action, event.subject) for event in events] == [
        (action, f"rule {stored.id}") for action in ("rule.delete", "rule.create")
    ]
    assert total == 2


@pytest.fixture
def of_later_release(session: Session, engine: Engine) -> Iterator[Rule]:
    """A rule of a kind that this release does not know."""
    stored, _ = put_rule(session, rule("later"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE all_rules SET needs = :needs WHERE id = :id"), _needs(stored, UNDERSTOOD + 1))
    yield stored
    with engine.begin() as connection:
        connection.execute(text("UPDATE all_rules SET needs = :needs WHERE id = :id"), _needs(stored, PLAIN))


def test_a_rule_of_a_later_release_is_neither_seen_nor_changed(
    session: Session, engine: Engine, of_later_release: Rule
) -> None:
    rules, hidden = RuleRepository(session), of_later_release
    assert rules.get(1, hidden.id) is None
    assert hidden.id not in {rule.id for rule in rules.rules(1)}
    assert hidden.id not in seen_by_nodes(engine)
    assert History(session, 1).versions(hidden.id, 0, 9) == ([], 0)
    for change in (changes(session).delete, lambda number: changes(session).edit(number, lambda rule: rule)):
        with pytest.raises(NotFound):
            change(hidden.id)
    with pytest.raises(Conflict, match="a later release understands"):
        put_rule(session, rule("later"))
    put_rule(session, rule("later", endpoint="login"))


def _needs(stored: Rule, needs: int) -> dict[str, int]:
    return {"id": stored.id, "needs": needs}
