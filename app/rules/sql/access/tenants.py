"""Tenants. Each change is one transaction, and reaches every worker as changes of rules do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.rules.documents import Document
from app.rules.errors import Conflict, NotFound
from app.rules.rule import DEFAULT_TENANT_ID
from app.rules.sql.access.api_keys import in_force
from app.rules.sql.database.pagination import page_of, total_of
from app.rules.sql.database.transactions import KEYS, TENANT_NAMES, exclude, versioned_transaction
from app.rules.sql.history import Author, History
from app.rules.sql.models import RuleRow, TenantRow

MAX_TENANTS = 10_000
RULES_AT_ONCE = 1000  # per DELETE statement: with limits and versions 0.1 s


@dataclass(frozen=True, slots=True)
class Tenant:
    id: int
    name: str
    created_at: datetime


class Tenants:
    """All tenants. The audit of tenants belongs to the author's tenant, `audit_tenant_id`."""

    def __init__(self, session: Session, audit_tenant_id: int = DEFAULT_TENANT_ID) -> None:
        self._session = session
        self._history = History(session, audit_tenant_id)

    def page(self, offset: int, count: int) -> tuple[list[Tenant], int]:
        rows, total = page_of(self._session, select(TenantRow).order_by(TenantRow.id), offset, count)
        return [_tenant(row) for row in rows], total

    def named(self, name: str) -> Tenant | None:
        row = self._session.execute(select(TenantRow).where(TenantRow.name == name)).scalar_one_or_none()
        return _tenant(row) if row else None

    def create(self, name: str, author: Author) -> Tenant:
        with versioned_transaction(self._session, TENANT_NAMES):
            if self.named(name) is not None:
                raise Conflict("a tenant of this name exists already", "name-taken")
            if total_of(self._session, select(TenantRow)) >= MAX_TENANTS:
                raise Conflict(f"the service has at most {MAX_TENANTS} tenants: delete one first", "too-many")
            row = self._session.execute(insert(TenantRow).values(name=name).returning(TenantRow)).scalar_one()
            tenant = _tenant(row)
            self._history.note(author, "tenant.create", f"tenant {tenant.id}", after={"name": name})
        return tenant

    def belongings(self, tenant_id: int) -> Document:
        """Return the contents that a deletion removes: the tenant's name, and its numbers of rules and keys."""
        row = self._session.execute(select(TenantRow).where(TenantRow.id == tenant_id)).scalar_one_or_none()
        if row is None:
            raise NotFound(f"there is no tenant {tenant_id}")
        if tenant_id == DEFAULT_TENANT_ID:
            raise Conflict("the default tenant cannot be deleted", "built-in")
        rules = total_of(self._session, select(RuleRow).where(RuleRow.tenant_id == tenant_id))
        return {"name": row.name, "rules": rules, "keys": total_of(self._session, in_force(tenant_id))}

    def delete(self, tenant_id: int, author: Author) -> None:
        """Delete the tenant with its rules and keys; its audit stays."""
        with versioned_transaction(self._session, tenant_id):
            before = self.belongings(tenant_id)
            self._delete_rules(tenant_id)
            exclude(self._session, KEYS)  # not earlier: changes of other tenants' keys would have to wait for the rules
            self._session.delete(self._session.get_one(TenantRow, tenant_id))
            self._history.note(author, "tenant.delete", f"tenant {tenant_id}", before=before)

    def _delete_rules(self, tenant_id: int) -> None:
        """Delete in steps: all of 100,000 rules would exceed statement_timeout."""
        some = select(RuleRow.id).where(RuleRow.tenant_id == tenant_id).limit(RULES_AT_ONCE)
        chosen = delete(RuleRow).where(RuleRow.id.in_(some)).execution_options(synchronize_session=False)
        while self._session.execute(chosen).rowcount == RULES_AT_ONCE:  # type: ignore[attr-defined]
            pass


def _tenant(row: TenantRow) -> Tenant:
    return Tenant(row.id, row.name, row.created_at)
