"""Rules stored, changed and looked at in the real tables, without a node."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.rules.rule import Limit, Rule
from app.rules.sql.changes import RuleChanges
from app.rules.sql.history import AuditFilter, Author, History

AUTHOR = Author("tester", "correlation-1")


def rule(client_id: str, *limits: Limit, **fields: object) -> Rule:
    return Rule(id=-1, client_id=client_id, limits=limits or (Limit(5, 60),), **fields)  # type: ignore[arg-type]


def changes(session: Session, tenant_id: int = 1) -> RuleChanges:
    return RuleChanges(session, tenant_id, AUTHOR)


def put_rule(session: Session, sent: Rule) -> tuple[Rule, bool]:
    return changes(session, sent.tenant_id).put(sent)


def audited(session: Session, count: int, tenant_id: int = 1) -> list[tuple[str, str]]:
    """Action and subject of the newest events, newest first."""
    events, _ = History(session, tenant_id).events(AuditFilter(), 0, count)
    return [(event.action, event.subject) for event in events]


def counters(stored: Rule) -> list[int]:
    return [limit.counter for limit in stored.limits]
