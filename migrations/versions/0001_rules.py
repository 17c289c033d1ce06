"""Tenants, rules with their limits, and the row with the version of all rules."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text),
        sa.Column("action", sa.Text, nullable=False, server_default="limit"),
        sa.Column("fail_mode", sa.Text),
        sa.Column("shadow", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("next_counter", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.CheckConstraint("action IN ('limit', 'allow', 'block')", name="ck_rules_action"),
        sa.CheckConstraint("fail_mode IN ('open', 'closed', 'local')", name="ck_rules_fail_mode"),
        sa.CheckConstraint("length(client_id) BETWEEN 1 AND 256", name="ck_rules_client_id"),
        sa.CheckConstraint("length(endpoint) BETWEEN 1 AND 128", name="ck_rules_endpoint"),
    )
    op.create_index(
        "uq_rules_who", "rules", ["tenant_id", "client_id", sa.text("coalesce(endpoint, '')"), "shadow"], unique=True
    )
    op.create_table(
        "rule_limits",
        sa.Column("rule_id", sa.Integer, sa.ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("rate", sa.Integer, nullable=False),
        sa.Column("window_seconds", sa.Integer, nullable=False),
        sa.Column("algorithm", sa.Text),
        sa.Column("burst", sa.Integer),
        sa.Column("counter", sa.Integer, nullable=False),
        sa.CheckConstraint("rate BETWEEN 1 AND 1000000000", name="ck_rule_limits_rate"),
        sa.CheckConstraint("burst BETWEEN 1 AND 1000000000", name="ck_rule_limits_burst"),
        sa.CheckConstraint("window_seconds BETWEEN 1 AND 31536000", name="ck_rule_limits_window_seconds"),
        sa.CheckConstraint(
            "algorithm IN ('token_bucket', 'fixed_window', 'sliding_window', 'sliding_window_counter', 'gcra')",
            name="ck_rule_limits_algorithm",
        ),
        sa.CheckConstraint(
            "greatest(rate, coalesce(burst, 0))::bigint * window_seconds <= 9000000000", name="ck_rule_limits_product"
        ),
    )
    rule_book = op.create_table(
        "rule_book",
        sa.Column("id", sa.Integer, primary_key=True, server_default=sa.text("1")),
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("key_secret", sa.Text, nullable=False),
        sa.Column("examples_loaded", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.CheckConstraint("id = 1", name="ck_rule_book_single"),
    )
    op.bulk_insert(tenants, [{"name": "default"}])
    op.bulk_insert(rule_book, [{"key_secret": secrets.token_hex(32)}])


def downgrade() -> None:
    for table in ("rule_book", "rule_limits", "rules", "tenants"):
        op.drop_table(table)
