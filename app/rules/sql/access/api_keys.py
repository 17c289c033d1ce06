"""API keys of tenants. Each change is one transaction, and reaches every worker as changes of rules do.

A key neither outlives nor outranks its maker. The scopes and expiry of the requesting key bound the keys that it makes
or changes. Operators, that is the bootstrap key and the command line, have no bounds.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from app.rules.api_key import SECRET_BYTES, KeyHash, actor_of, new_key
from app.rules.documents import Document
from app.rules.errors import Conflict, Forbidden, NotFound
from app.rules.rule import DEFAULT_TENANT_ID
from app.rules.sql.database.pagination import page_of, total_of
from app.rules.sql.database.transactions import KEYS, versioned_transaction
from app.rules.sql.history import Author, History
from app.rules.sql.models import ApiKeyRow, RuleBookRow, TenantRow

MAX_KEYS = 1_000  # unexpired and unrevoked, per tenant
# For keys that expire; readers of the table need not handle the year 10000.
MAX_LIFETIME = timedelta(days=36_525)
LIFTS_LIMITS = "rules:write"  # a key with this scope gains nothing by creating further clients for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """The public fields of a key. `tenant` is its tenant's name.

    `owner`: the name under which forward auth counts it. `maker`: the id of the key that created it; None: an operator.
    `rotation_of`: the id of the first key in its chain of rotations; None: it is the first.
    """

    id: str
    tenant: str
    name: str
    scopes: list[str]
    owner: str
    maker: str | None
    rotation_of: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def document(self) -> Document:
        """Return the fields for the audit."""
        expires_at = self.expires_at.isoformat() if self.expires_at else None
        shown = {"id": self.id, "name": self.name, "scopes": self.scopes, "expires_at": expires_at}
        return shown | {"owner": self.owner, "maker": self.maker, "rotation_of": self.rotation_of}


class ApiKeys:
    """API keys of one tenant, or of all (None). `requested_by`: the id of the requesting key; None: an operator."""

    def __init__(self, session: Session, tenant_id: int | None, requested_by: str | None = None) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._requested_by = requested_by

    def page(self, offset: int, count: int, *, revoked: bool = False) -> tuple[list[KeyRecord], int]:
        """Return a page of valid keys, or of revoked ones, oldest first, and the total."""
        rows = select(ApiKeyRow).where(*self._own(), ApiKeyRow.revoked_at.is_not(None) == revoked)
        found, total = page_of(self._session, rows.order_by(ApiKeyRow.created_at, ApiKeyRow.id), offset, count)
        return [self._record(row) for row in found], total

    def get(self, key_id: str) -> KeyRecord:
        return self._record(self._row(key_id))

    def create(
        self, tenant_id: int, name: str, scopes: Collection[str], expires_at: datetime | None, author: Author
    ) -> tuple[KeyRecord, str]:
        """Return a new key's record and the key itself, which is not stored. Default expiry: that of its maker."""
        with versioned_transaction(self._session, KEYS):
            maker, owner = self._requester(scopes), None
            if maker is not None:
                expires_at = expires_at or maker.expires_at
                _require_end(maker, expires_at)
                owner = None if LIFTS_LIMITS in maker.scopes else _owner(maker)
            new = ApiKeyRow(tenant_id=tenant_id, name=name, scopes=scopes, expires_at=expires_at, owner=owner)
            return self._issue("key.create", new, author)

    def rotate(self, key_id: str, overlap_seconds: int, author: Author) -> tuple[KeyRecord, str]:
        """Return a new key like this one, which stays valid for the overlap, at most until its own expiry."""
        with versioned_transaction(self._session, KEYS):
            old = self._row(key_id)
            requester = self._requester(old.scopes)
            if requester is not None:
                _require_end(requester, old.expires_at)
            new = ApiKeyRow(
                tenant_id=old.tenant_id,
                name=old.name,
                scopes=old.scopes,
                expires_at=old.expires_at,
                owner=_owner(old),
                rotation_of=old.rotation_of or old.id,
            )
            issued = self._issue("key.rotate", new, author)
            end = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, overlap_seconds)
            old_key = update(ApiKeyRow).where(ApiKeyRow.id == key_id)
            self._session.execute(old_key.values(expires_at=func.least(ApiKeyRow.expires_at, end)))
        return issued

    def revoke(self, key_id: str, author: Author, *, children: bool = False) -> int:
        """Revoke the key; return the number of revoked keys.

        With `children`, also revoke its rotations and all keys that any of them made, recursively. The key itself may
        then be revoked already. Raises NotFound if nothing is left to revoke.
        """
        with versioned_transaction(self._session, KEYS):
            row = self._row(key_id, revoked_too=children)
            self._requester(row.scopes)
            going = self._family(row) if children else [row]
            if not going:
                raise NotFound(NO_SUCH_KEY)
            for row in going:
                row.revoked_at = func.now()
                before = self._record(row).document()
                History(self._session, row.tenant_id).note(author, "key.revoke", f"key {row.id}", before=before)
        return len(going)

    def _issue(self, action: str, row: ApiKeyRow, author: Author) -> tuple[KeyRecord, str]:
        """Store the row with an id, a secret and its maker."""
        if total_of(self._session, in_force(row.tenant_id)) >= MAX_KEYS:
            raise Conflict(f"a tenant has at most {MAX_KEYS} keys: revoke one first", "too-many")
        row.id, key = new_key()
        hash_secret = self._session.execute(select(RuleBookRow.key_hash_secret)).scalar_one()
        row.digest = KeyHash(bytes.fromhex(hash_secret)).digest(key)
        row.scopes, row.maker = sorted(set(row.scopes)), self._requested_by
        self._session.add(row)
        self._session.flush()
        record = self._record(row)
        History(self._session, row.tenant_id).note(author, action, f"key {row.id}", after=record.document())
        return record, key

    def _requester(self, scopes: Collection[str]) -> ApiKeyRow | None:
        """Return the requesting key, which must have all of the scopes; None for an operator. Raises Forbidden.

        It is read inside the transaction, so that a key that has just ended creates nothing.
        """
        if self._requested_by is None:
            return None
        found = self._session.execute(select(ApiKeyRow).where(ApiKeyRow.id == self._requested_by, *_IN_FORCE))
        requester = found.scalar_one_or_none()
        if requester is None:
            raise Forbidden("the API key has expired or was revoked")
        if lacking := sorted(set(scopes) - set(requester.scopes)):
            can = "it can neither give this scope nor change a key that has it"
            raise Forbidden(f"the API key lacks the scope {lacking[0]}: {can}")
        return requester

    def _family(self, row: ApiKeyRow) -> list[ApiKeyRow]:
        """Return the key, its rotations and all their descendants in every tenant: those not revoked, oldest first."""
        first = row.rotation_of or row.id
        family = select(ApiKeyRow.id).where(or_(ApiKeyRow.id == first, ApiKeyRow.rotation_of == first))
        family_ids = family.cte(recursive=True)
        came_of = or_(ApiKeyRow.maker == family_ids.c.id, ApiKeyRow.rotation_of == family_ids.c.id)
        family_ids = family_ids.union(select(ApiKeyRow.id).join(family_ids, came_of))
        living = select(ApiKeyRow).where(ApiKeyRow.id.in_(select(family_ids.c.id)), ApiKeyRow.revoked_at.is_(None))
        return list(self._session.execute(living.order_by(ApiKeyRow.created_at, ApiKeyRow.id)).scalars())

    def _row(self, key_id: str, *, revoked_too: bool = False) -> ApiKeyRow:
        wanted = select(ApiKeyRow).where(*self._own(), ApiKeyRow.id == key_id)
        if not revoked_too:
            wanted = wanted.where(ApiKeyRow.revoked_at.is_(None))
        row = self._session.execute(wanted).scalar_one_or_none()
        if row is None:
            raise NotFound(NO_SUCH_KEY)
        return row

    def _own(self) -> list[ColumnElement[bool]]:
        return [] if self._tenant_id is None else [ApiKeyRow.tenant_id == self._tenant_id]

    def _record(self, row: ApiKeyRow) -> KeyRecord:
        return KeyRecord(
            id=row.id,
            tenant=self._session.get_one(TenantRow, row.tenant_id).name,
            name=row.name,
            scopes=list(row.scopes),
            owner=_owner(row),
            maker=row.maker,
            rotation_of=row.rotation_of,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )


NO_SUCH_KEY = "there is no such key"  # does not echo the id: callers may send the whole key by mistake
_IN_FORCE = (
    ApiKeyRow.revoked_at.is_(None),
    or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()),
)


def in_force(tenant_id: int) -> Select[Any]:
    return select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id, *_IN_FORCE)


def can_expire_at(moment: datetime, now: datetime) -> bool:
    return now < moment < now + MAX_LIFETIME


def rotate_hash_secret(session: Session, author: Author) -> int:
    """Hash keys under a new secret from now on, and revoke all older keys; return their number."""
    with versioned_transaction(session, KEYS):
        session.execute(update(RuleBookRow).values(key_hash_secret=secrets.token_hex(SECRET_BYTES)))
        revoked = update(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None)).values(revoked_at=func.now())
        count = len(session.execute(revoked.returning(ApiKeyRow.id)).all())
        History(session, DEFAULT_TENANT_ID).note(author, "keys.rotate-secret", "keys", after={"revoked": count})
    return count


def _owner(row: ApiKeyRow) -> str:
    return row.owner or actor_of(row.name, row.id)


def _require_end(maker: ApiKeyRow, expires_at: datetime | None) -> None:
    """Raises Forbidden if a key of this expiry (None: never) would outlive its maker."""
    latest = maker.expires_at
    if latest is not None and (expires_at is None or expires_at > latest):
        raise Forbidden(f"a key cannot outlive the key that makes it: expires_at is at most {latest.isoformat()}")
