"""The state of all rules and keys together: the current ruleset version, and the snapshot that a worker reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Executable, Row, func, select, text, update
from sqlalchemy.orm import Session

from app.rules.api_key import ApiKey
from app.rules.rule import UNDERSTOOD, Rule
from app.rules.rule_book import RulesetId, Snapshot
from app.rules.sql.models import ApiKeyRow, RuleBookRow, TenantRow
from app.rules.sync.yielding import Pace, unpaced

CHANNEL = "rules"  # of notifications about changed rules

# xmin is the transaction that wrote a row. The time distinguishes equal numbers after a restored backup.
_MARKS = text("""
    SELECT id, concat(all_rules.xmin, ' ', extract(epoch FROM updated_at), ' ', limits.written) AS mark
    FROM all_rules LEFT JOIN (
        SELECT rule_id, string_agg(rule_limits.xmin::text, ' ' ORDER BY position) AS written
        FROM rule_limits GROUP BY rule_id
    ) AS limits ON rule_id = id
    WHERE needs <= :understood
    ORDER BY id
""").bindparams(understood=UNDERSTOOD)

_TENANTS = select(TenantRow.id, TenantRow.name).order_by(TenantRow.id)
# Columns instead of ORM objects, which take several times as long for thousands of keys.
_KEYS = (
    select(
        ApiKeyRow.id,
        ApiKeyRow.tenant_id,
        ApiKeyRow.name,
        ApiKeyRow.digest,
        ApiKeyRow.scopes,
        ApiKeyRow.expires_at,
        ApiKeyRow.owner,
    )
    .where(ApiKeyRow.revoked_at.is_(None))
    .order_by(ApiKeyRow.id)
)


class RulesetVersions:
    """Every method runs in the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def current(self) -> RulesetId:
        """Return the version of all rules and the identity of their database, from one row."""
        columns = (RuleBookRow.version, RuleBookRow.key_secret, RuleBookRow.drawn)
        row = self._session.execute(select(*columns)).one()
        return RulesetId(row.version, bytes.fromhex(row.key_secret), row.drawn.hex)

    def snapshot(self, rules: Iterable[Rule], pace: Pace = unpaced) -> Snapshot:
        """Return the snapshot for a rule book, given the rules. Consistent only in a repeatable-read transaction."""
        book = self._session.execute(select(RuleBookRow)).scalar_one()
        return Snapshot(
            book.version,
            bytes.fromhex(book.key_secret),
            tuple(rules),
            keys=tuple(_key(row) for row in pace(self._in_pieces(_KEYS))),
            key_hash_secret=bytes.fromhex(book.key_hash_secret),
            tenants={name: tenant_id for tenant_id, name in pace(self._in_pieces(_TENANTS))},
            drawn=book.drawn.hex,
        )

    def marks(self) -> Iterator[tuple[int, str]]:
        """Yield every rule id in order with a mark that changes with its rows, even after a manual change."""
        return ((rule_id, mark) for rule_id, mark in self._in_pieces(_MARKS))

    def bump(self) -> int:
        """Raise the version and renew `drawn`; return the version.

        Holds the row until commit, so that changes happen in the order of their versions. Listeners are notified at the
        commit.
        """
        self._session.execute(text(f"NOTIFY {CHANNEL}"))
        bump = update(RuleBookRow).values(version=RuleBookRow.version + 1, drawn=func.gen_random_uuid())
        return self._session.execute(bump.returning(RuleBookRow.version)).scalar_one()

    def claim_examples(self) -> bool:
        """Return True for exactly one caller ever, which then loads the example rules."""
        claim = update(RuleBookRow).where(~RuleBookRow.examples_loaded).values(examples_loaded=True)
        return self._session.execute(claim.returning(RuleBookRow.id)).scalar_one_or_none() is not None

    def _in_pieces(self, query: Executable) -> Iterable[Row[Any]]:
        """Return the query's rows, read in parts."""
        return self._session.execute(query, execution_options={"yield_per": 500})


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        digest=row.digest,
        scopes=frozenset(row.scopes),
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        owner=row.owner,
    )
