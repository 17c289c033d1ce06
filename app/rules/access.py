"""Tenants and their API keys. Each change is one transaction, and reaches every worker as changes of rules do."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.rules.api_key import SECRET_BYTES, KeyHash, new_key
from app.rules.changes import changing
from app.rules.documents import Document
from app.rules.errors import Conflict, NotFound
from app.rules.history import Author, History
from app.rules.models import ApiKeyRow, RuleBookRow, RuleRow, TenantRow
from app.rules.pages import page_of, total_of
from app.rules.rule import DEFAULT_TENANT_ID

MAX_TENANTS = 10_000
MAX_KEYS = 1_000  # in force, of one tenant
MAX_LIFETIME = timedelta(days=36_525)  # of a key that expires; no reader of the table has to cope with the year 10000


@dataclass(frozen=True, slots=True)
class Tenant:
    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What may be shown of a key. `tenant` is its tenant's name."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def document(self) -> Document:
        """For the audit."""
        expires_at = self.expires_at.isoformat() if self.expires_at else None
        return {"id": self.id, "name": self.name, "scopes": self.scopes, "expires_at": expires_at}


class Tenants:
    """All tenants. The audit of their coming and going is that of the author's own tenant, `audit_tenant_id`."""

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
        with changing(self._session):
            if self.named(name) is not None:
                raise Conflict(f"there is a tenant {name} already")
            if total_of(self._session, select(TenantRow)) >= MAX_TENANTS:
                raise Conflict(f"there are {MAX_TENANTS} tenants, which is the most")
            row = self._session.execute(insert(TenantRow).values(name=name).returning(TenantRow)).scalar_one()
            tenant = _tenant(row)
            self._history.note(author, "tenant.create", f"tenant {tenant.id}", after={"name": name})
        return tenant

    def belongings(self, tenant_id: int) -> Document:
        """What goes when the tenant is deleted: its name, and how many rules and keys."""
        row = self._session.execute(select(TenantRow).where(TenantRow.id == tenant_id)).scalar_one_or_none()
        if row is None:
            raise NotFound(f"there is no tenant {tenant_id}")
        if tenant_id == DEFAULT_TENANT_ID:
            raise Conflict("the default tenant cannot be deleted")
        rules = total_of(self._session, select(RuleRow).where(RuleRow.tenant_id == tenant_id))
        return {"name": row.name, "rules": rules, "keys": total_of(self._session, _in_force(tenant_id))}

    def delete(self, tenant_id: int, author: Author) -> None:
        """Delete the tenant with its rules and keys; its audit stays."""
        with changing(self._session):
            before = self.belongings(tenant_id)
            self._session.delete(self._session.get_one(TenantRow, tenant_id))
            self._history.note(author, "tenant.delete", f"tenant {tenant_id}", before=before)


class ApiKeys:
    """API keys of one tenant, or of all (None)."""

    def __init__(self, session: Session, tenant_id: int | None) -> None:
        self._session = session
        self._tenant_id = tenant_id

    def page(self, offset: int, count: int, *, revoked: bool = False) -> tuple[list[KeyRecord], int]:
        """Keys in force, or those revoked, oldest first."""
        rows = select(ApiKeyRow).where(*self._own(), ApiKeyRow.revoked_at.is_not(None) == revoked)
        found, total = page_of(self._session, rows.order_by(ApiKeyRow.created_at, ApiKeyRow.id), offset, count)
        return [self._record(row) for row in found], total

    def get(self, key_id: str) -> KeyRecord:
        return self._record(self._row(key_id))

    def create(
        self, tenant_id: int, name: str, scopes: Collection[str], expires_at: datetime | None, author: Author
    ) -> tuple[KeyRecord, str]:
        """A new key, and its only showing."""
        with changing(self._session):
            return self._issue("key.create", tenant_id, name, scopes, expires_at, author)

    def rotate(self, key_id: str, overlap_seconds: int, author: Author) -> tuple[KeyRecord, str]:
        """A new key like this one, which goes on for the overlap, but not beyond its own expiry."""
        with changing(self._session):
            old = self._row(key_id)
            new = self._issue("key.rotate", old.tenant_id, old.name, old.scopes, old.expires_at, author)
            end = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, overlap_seconds)
            old_key = update(ApiKeyRow).where(ApiKeyRow.id == key_id)
            self._session.execute(old_key.values(expires_at=func.least(ApiKeyRow.expires_at, end)))
        return new

    def revoke(self, key_id: str, author: Author) -> None:
        with changing(self._session):
            row = self._row(key_id)
            row.revoked_at = func.now()
            before = self._record(row).document()
            History(self._session, row.tenant_id).note(author, "key.revoke", f"key {key_id}", before=before)

    def _issue(
        self,
        action: str,
        tenant_id: int,
        name: str,
        scopes: Collection[str],
        expires_at: datetime | None,
        author: Author,
    ) -> tuple[KeyRecord, str]:
        if total_of(self._session, _in_force(tenant_id)) >= MAX_KEYS:
            raise Conflict(f"a tenant has at most {MAX_KEYS} keys: revoke one first")
        key_id, key = new_key()
        hash_secret = self._session.execute(select(RuleBookRow.key_hash_secret)).scalar_one()
        row = ApiKeyRow(
            id=key_id,
            tenant_id=tenant_id,
            name=name,
            digest=KeyHash(bytes.fromhex(hash_secret)).digest(key),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
        )
        self._session.add(row)
        self._session.flush()
        record = self._record(row)
        History(self._session, tenant_id).note(author, action, f"key {key_id}", after=record.document())
        return record, key

    def _row(self, key_id: str) -> ApiKeyRow:
        wanted = select(ApiKeyRow).where(*self._own(), ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        row = self._session.execute(wanted).scalar_one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id}")
        return row

    def _own(self) -> list[ColumnElement[bool]]:
        return [] if self._tenant_id is None else [ApiKeyRow.tenant_id == self._tenant_id]

    def _record(self, row: ApiKeyRow) -> KeyRecord:
        return KeyRecord(
            id=row.id,
            tenant=self._session.get_one(TenantRow, row.tenant_id).name,
            name=row.name,
            scopes=list(row.scopes),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )


def can_expire_at(moment: datetime, now: datetime) -> bool:
    return now < moment < now + MAX_LIFETIME


def rotate_hash_secret(session: Session, author: Author) -> int:
    """Hash keys under a new secret from now on, and revoke all that were hashed under the old one; how many."""
    with changing(session):
        session.execute(update(RuleBookRow).values(key_hash_secret=secrets.token_hex(SECRET_BYTES)))
        revoked = update(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None)).values(revoked_at=func.now())
        count = len(session.execute(revoked.returning(ApiKeyRow.id)).all())
        History(session, DEFAULT_TENANT_ID).note(author, "keys.rotate-secret", "keys", after={"revoked": count})
    return count


def _in_force(tenant_id: int) -> Select[Any]:
    live = or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now())
    return select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id, ApiKeyRow.revoked_at.is_(None), live)


def _tenant(row: TenantRow) -> Tenant:
    return Tenant(row.id, row.name, row.created_at)
