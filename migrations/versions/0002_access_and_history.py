"""API keys, versions of rules, the audit, and templates."""

import secrets

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0002"
down_revision = "0001"

NOW = sa.text("now()")
CLOCK = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)

# Adds the document of every existing rule as its version.
BACKFILL = """
INSERT INTO rule_versions (rule_id, version, document, action, actor, created_at)
SELECT r.id, r.version, jsonb_build_object(
         'client_id', r.client_id, 'endpoint', r.endpoint, 'action', r.action, 'fail_mode', r.fail_mode,
         'shadow', r.shadow, 'enabled', r.enabled, 'description', r.description,
         'limits', coalesce((
           SELECT jsonb_agg(jsonb_build_object('rate', l.rate, 'window', l.window_seconds,
                                               'algorithm', l.algorithm, 'burst', l.burst) ORDER BY l.position)
           FROM rule_limits l WHERE l.rule_id = r.id), '[]'::jsonb)),
       'rule.create', 'migration 0002', r.updated_at
FROM rules r
"""


def upgrade() -> None:
    op.create_check_constraint(op.f("ck_tenants_name"), "tenants", "length(name) BETWEEN 1 AND 64")
    op.create_table(
        "rule_versions",
        sa.Column("rule_id", sa.Integer, sa.ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("document", JSONB, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=CLOCK),
    )
    op.execute(BACKFILL)
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("at", TIME, nullable=False, server_default=CLOCK),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("before", JSONB),
        sa.Column("after", JSONB),
        sa.Column("correlation_id", sa.Text, nullable=False),
    )
    op.create_index("ix_audit_events_tenant_id", "audit_events", ["tenant_id", "id"])
    op.create_index("ix_audit_events_at", "audit_events", ["at"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.CheckConstraint("length(id) = 8", name=op.f("ck_api_keys_id")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 64", name=op.f("ck_api_keys_name")),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_api_keys_digest")),
        sa.CheckConstraint(
            "scopes <@ ARRAY['check', 'rules:read', 'rules:write', 'audit:read', 'keys:write', 'tenants:write']",
            name=op.f("ck_api_keys_scopes"),
        ),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])
    op.create_table(
        "templates",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("rules", JSONB, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_templates_tenant_id")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 64", name=op.f("ck_templates_name")),
    )
    # The column's default fills the single row. It is then removed, so that no second row can be inserted.
    op.add_column(
        "rule_book", sa.Column("key_hash_secret", sa.Text, nullable=False, server_default=secrets.token_hex(32))
    )
    op.alter_column("rule_book", "key_hash_secret", server_default=None)


def downgrade() -> None:
    op.drop_column("rule_book", "key_hash_secret")
    for table in ("templates", "api_keys", "audit_events", "rule_versions"):
        op.drop_table(table)
    op.drop_constraint(op.f("ck_tenants_name"), "tenants")
