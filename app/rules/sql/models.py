"""The tables. The database has constraints too: it is the last check of a row before every node decides by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.rules.api_key import ID_LENGTH, SCOPES, actor_of
from app.rules.rule import (
    ACTIONS,
    ALGORITHMS,
    DEFAULT_LAYER,
    FAIL_MODES,
    LAYER,
    MAX_AMOUNT,
    MAX_NAME,
    MAX_RATE_TIMES_WINDOW,
    MAX_WINDOW_SECONDS,
)

MAX_OWNER = MAX_NAME + len(actor_of("", "")) + ID_LENGTH
CLIENT_OF_EVENT = "coalesce(after ->> 'client_id', before ->> 'client_id')"
GROUP_OF_EVENT = "coalesce(after ->> 'group', before ->> 'group')"
ANY_ENDPOINT = "coalesce(endpoint, '')"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def _between(column: str, low: int, high: int) -> CheckConstraint:
    return CheckConstraint(f"{column} BETWEEN {low} AND {high}", name=column)


def _length(column: str, high: int) -> CheckConstraint:
    return CheckConstraint(f"length({column}) BETWEEN 1 AND {high}", name=column)


class TenantRow(Base):
    __tablename__ = "tenants"
    __table_args__ = (_length("name", MAX_NAME),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class RuleRow(Base):
    """A rule of any kind. Nodes of releases before layers use the view `rules`, which has those with `needs` 0.

    Every query selects the rules that this release understands: `UNDERSTOOD` in rows.py.
    """

    __tablename__ = "all_rules"
    __table_args__ = (
        # An endpoint is never empty, so '' can stand for "any". A shadow exists beside the rule that it may replace.
        Index("uq_all_rules_client", "tenant_id", "client_id", "layer", text(ANY_ENDPOINT), "shadow", unique=True),
        Index(
            "uq_all_rules_group",
            "tenant_id",
            "group",
            "layer",
            text(ANY_ENDPOINT),
            "shadow",
            unique=True,
            postgresql_where=text('"group" IS NOT NULL'),
        ),
        Index("ix_all_rules_needs", "tenant_id", postgresql_where=text("needs > 0")),
        _one_of("action", ACTIONS),
        _one_of("fail_mode", FAIL_MODES),
        _length("client_id", 256),
        _length("endpoint", 128),
        CheckConstraint('num_nonnulls(client_id, "group") = 1', name="owner"),
        CheckConstraint('length("group") BETWEEN 1 AND 128', name="group"),
        CheckConstraint(f"layer ~ '^{LAYER}$'", name="layer"),
        CheckConstraint(f"needs > 0 OR (layer = '{DEFAULT_LAYER}' AND \"group\" IS NULL AND NOT shared)", name="needs"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    client_id: Mapped[str | None] = mapped_column(Text)
    group: Mapped[str | None] = mapped_column(Text)
    layer: Mapped[str] = mapped_column(Text, server_default=DEFAULT_LAYER)
    shared: Mapped[bool] = mapped_column(server_default=text("false"))
    needs: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    endpoint: Mapped[str | None] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text, server_default="limit")
    fail_mode: Mapped[str | None] = mapped_column(Text)
    shadow: Mapped[bool] = mapped_column(server_default=text("false"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    description: Mapped[str] = mapped_column(Text, server_default="")
    version: Mapped[int] = mapped_column(server_default=text("1"))
    next_counter: Mapped[int] = mapped_column(server_default=text("1"))  # counter numbers are never reused
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class LimitRow(Base):
    __tablename__ = "rule_limits"
    __table_args__ = (
        _between("rate", 1, MAX_AMOUNT),
        _between("burst", 1, MAX_AMOUNT),
        _between("window_seconds", 1, MAX_WINDOW_SECONDS),
        _one_of("algorithm", ALGORITHMS),
        CheckConstraint(
            f"greatest(rate, coalesce(burst, 0))::bigint * window_seconds <= {MAX_RATE_TIMES_WINDOW}", name="product"
        ),
    )

    rule_id: Mapped[int] = mapped_column(ForeignKey("all_rules.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    rate: Mapped[int]
    window_seconds: Mapped[int]
    algorithm: Mapped[str | None] = mapped_column(Text)
    burst: Mapped[int | None]
    counter: Mapped[int]


class RuleBookRow(Base):
    """The single row with the current ruleset version.

    `drawn` is random, and new after each change. Nodes compare it too, since a restored backup can repeat a version.
    """

    __tablename__ = "rule_book"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, server_default=text("1"))
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    drawn: Mapped[UUID] = mapped_column("edition", server_default=func.gen_random_uuid())
    key_secret: Mapped[str] = mapped_column(Text)  # hex; created by the first migration, the same for all nodes
    key_hash_secret: Mapped[str] = mapped_column(Text)  # hex; the secret for hashes of API keys
    examples_loaded: Mapped[bool] = mapped_column(server_default=text("false"))


class RuleVersionRow(Base):
    """A rule's state from one change to the next."""

    __tablename__ = "rule_versions"

    rule_id: Mapped[int] = mapped_column(ForeignKey("all_rules.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSONB)
    action: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


class AuditEventRow(Base):
    """The author and content of a change. Insert-only; no foreign key, because it outlives its tenant."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_tenant_id", "tenant_id", "id"),
        Index("ix_audit_events_at", "at"),
        # For events about rules: the client after the change. Queries must repeat this expression.
        Index("ix_audit_events_client", "tenant_id", text(CLIENT_OF_EVENT), "id"),
        Index("ix_audit_events_subject", "tenant_id", "subject", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    tenant_id: Mapped[int]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    correlation_id: Mapped[str] = mapped_column(Text)


class ApiKeyRow(Base):
    __tablename__ = "api_keys"
    __table_args__ = (
        Index("ix_api_keys_tenant_id", "tenant_id"),
        Index("ix_api_keys_maker", "maker"),
        Index("ix_api_keys_rotation_of", "rotation_of"),
        CheckConstraint(f"length(id) = {ID_LENGTH}", name="id"),
        _length("name", MAX_NAME),
        _length("owner", MAX_OWNER),
        CheckConstraint("octet_length(digest) = 32", name="digest"),
        CheckConstraint(f"scopes <@ ARRAY[{', '.join(repr(scope) for scope in SCOPES)}]", name="scopes"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Ids without a foreign key: they stay when that key is deleted with its tenant.
    maker: Mapped[str | None] = mapped_column(Text)
    rotation_of: Mapped[str | None] = mapped_column(Text)
    owner: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class TemplateRow(Base):
    """A tenant's own template: documents of rules without a client."""

    __tablename__ = "templates"
    __table_args__ = (UniqueConstraint("tenant_id", "name"), _length("name", MAX_NAME))

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, server_default="")
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class NodeRow(Base):
    """A node that runs or recently ran, with the settings that its decisions depend on. No secrets."""

    __tablename__ = "nodes"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    settings: Mapped[dict[str, str]] = mapped_column(JSONB)
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
