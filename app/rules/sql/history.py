"""Versions of rules and the audit: written in the transaction of each change, and never changed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import Select, delete, func, literal_column, or_, select, tuple_
from sqlalchemy.orm import Session

from app.rules.documents import Document, document_of
from app.rules.rule import Rule
from app.rules.sql.database.bulk_sql import insert_rows
from app.rules.sql.database.pagination import page_of
from app.rules.sql.models import CLIENT_OF_EVENT, GROUP_OF_EVENT, AuditEventRow, RuleRow, RuleVersionRow
from app.rules.sql.rows import UNDERSTANDABLE
from app.rules.sync.yielding import Pace, unpaced

CREATE, REPLACE, UPDATE, DELETE, ROLLBACK = "rule.create", "rule.replace", "rule.update", "rule.delete", "rule.rollback"
BLOCK, UNBLOCK, PROMOTE = "rule.block", "rule.unblock", "rule.promote"
PRUNE_CHUNK = 5000  # rows per statement


class Author(NamedTuple):
    """The author of a change, and the request it came in."""

    name: str
    correlation_id: str


class RuleChange(Struct, frozen=True, gc=False):
    """A rule before and after a change; None: no rule."""

    action: str
    before: Rule | None
    after: Rule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """None: any. An `action` that ends with * is a prefix. A rule's client or group is the one after the change."""

    client_id: str | None = None
    group: str | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class History:
    """The versions and the audit of one tenant. Every method runs in the caller's transaction."""

    def __init__(self, session: Session, tenant_id: int) -> None:
        self._session = session
        self._tenant_id = tenant_id

    def record(self, author: Author, changes: Sequence[RuleChange], pace: Pace = unpaced) -> None:
        """Store the new versions of the rules and the audit events of the changes."""
        versions = (_version(author, change.action, change.after) for change in pace(changes) if change.after)
        insert_rows(self._session, RuleVersionRow, versions)
        insert_rows(self._session, AuditEventRow, (self._rule_event(author, change) for change in pace(changes)))

    def note(
        self, author: Author, action: str, subject: str, before: Document | None = None, after: Document | None = None
    ) -> None:
        """Add an audit event about anything but a rule."""
        insert_rows(self._session, AuditEventRow, [self._event(author, action, subject, before, after)])

    def versions(self, rule_id: int, offset: int, count: int) -> tuple[list[RuleVersionRow], int]:
        """Return a page of the versions of the tenant's rule, newest first, and their total."""
        return page_of(self._session, self._versions(rule_id).order_by(RuleVersionRow.version.desc()), offset, count)

    def version(self, rule_id: int, version: int) -> RuleVersionRow | None:
        found = self._versions(rule_id).where(RuleVersionRow.version == version)
        return self._session.execute(found).scalar_one_or_none()

    def events(self, wanted: AuditFilter, offset: int, count: int) -> tuple[list[AuditEventRow], int]:
        """Return a page of the audit, newest first, and the total number of events."""
        return page_of(self._session, self._events(wanted).order_by(AuditEventRow.id.desc()), offset, count)

    def _versions(self, rule_id: int) -> Select[tuple[RuleVersionRow]]:
        own = (RuleRow.id == rule_id, RuleRow.tenant_id == self._tenant_id, UNDERSTANDABLE)
        return select(RuleVersionRow).join(RuleRow, RuleRow.id == RuleVersionRow.rule_id).where(*own)

    def _events(self, wanted: AuditFilter) -> Select[tuple[AuditEventRow]]:
        found = select(AuditEventRow).where(AuditEventRow.tenant_id == self._tenant_id)
        if wanted.client_id is not None:
            client = literal_column(CLIENT_OF_EVENT) == wanted.client_id
            found = found.where(or_(client, AuditEventRow.subject == f"client {wanted.client_id}"))
        if wanted.group is not None:
            group = literal_column(GROUP_OF_EVENT) == wanted.group
            found = found.where(or_(group, AuditEventRow.subject == f"group {wanted.group}"))
        action = wanted.action
        if action is not None and action.endswith("*"):
            found = found.where(AuditEventRow.action.startswith(action[:-1], autoescape=True))
            action = None
        for name, value in (
            ("actor", wanted.actor),
            ("action", action),
            ("subject", wanted.subject),
            ("correlation_id", wanted.correlation_id),
        ):
            if value is not None:
                found = found.where(getattr(AuditEventRow, name) == value)
        if wanted.since is not None:
            found = found.where(AuditEventRow.at >= wanted.since)
        if wanted.until is not None:
            found = found.where(AuditEventRow.at < wanted.until)
        return found

    def _rule_event(self, author: Author, change: RuleChange) -> dict[str, Any]:
        rule = change.after or change.before
        subject = f"rule {rule.id}" if rule else "rule"
        return self._event(
            author, change.action, subject, _document_or_none(change.before), _document_or_none(change.after)
        )

    def _event(
        self, author: Author, action: str, subject: str, before: Document | None, after: Document | None
    ) -> dict[str, Any]:
        return {
            "tenant_id": self._tenant_id,
            "actor": author.name,
            "action": action,
            "subject": subject,
            "before": before,
            "after": after,
            "correlation_id": author.correlation_id,
        }


def prune(session: Session, *, audit_days: int, versions_kept: int) -> tuple[int, int]:
    """Delete old audit events and all but the newest versions of each rule; return the two numbers.

    `audit_days` is the age limit of events. Needs a database role with DELETE on the audit.
    """
    old = AuditEventRow.at < func.now() - func.make_interval(0, 0, 0, audit_days)
    events = _delete_in_chunks(session, AuditEventRow, (AuditEventRow.id,), select(AuditEventRow.id).where(old))
    surplus = (RuleVersionRow.rule_id == RuleRow.id, RuleVersionRow.version <= RuleRow.version - versions_kept)
    key = (RuleVersionRow.rule_id, RuleVersionRow.version)
    return events, _delete_in_chunks(session, RuleVersionRow, key, select(*key).where(*surplus))


def _delete_in_chunks(session: Session, table: type[Any], key: tuple[Any, ...], surplus: Select[Any]) -> int:
    """Delete in steps, each durable: no statement may exceed statement_timeout."""
    deleted, rows = 0, PRUNE_CHUNK
    while rows == PRUNE_CHUNK:
        chosen = delete(table).where(tuple_(*key).in_(surplus.limit(PRUNE_CHUNK)))
        rows = session.execute(chosen.execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined]
        session.commit()
        deleted += rows
    return deleted


def _version(author: Author, action: str, rule: Rule) -> dict[str, Any]:
    return {
        "rule_id": rule.id,
        "version": rule.version,
        "document": document_of(rule),
        "action": action,
        "actor": author.name,
    }


def _document_or_none(rule: Rule | None) -> Document | None:
    return {"id": rule.id, "version": rule.version} | document_of(rule) if rule else None
