"""Rules for groups, layers and shared counters.

Nodes of the previous release cannot decide by these rules, so they do not see them. The table is now `all_rules`, and
`rules` is a view of the rules that such a node understands: `needs` is 0. It reads and changes them as before. A rule
that gets a layer disappears for such a node, as if it were deleted. Each later kind of rule has a higher `needs`.

No decision changes: all rules get the layer `default`. Rules made from the templates login-protection and
signup-protection stay there too. Applying such a template again makes a rule in the layer `protection`, beside them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

VIEW = """
CREATE VIEW rules AS
SELECT xmin, id, tenant_id, client_id, endpoint, action, fail_mode, shadow, enabled, description, version, next_counter,
       created_at, updated_at
FROM all_rules WHERE needs = 0
"""
CHECKS = {
    "owner": 'num_nonnulls(client_id, "group") = 1',
    "group": 'length("group") BETWEEN 1 AND 128',
    "layer": "layer ~ '^[a-z0-9_-]{1,32}$'",
    "needs": "needs > 0 OR (layer = 'default' AND \"group\" IS NULL AND NOT shared)",
}
COLUMNS = ("group", "layer", "shared", "needs")
ENDPOINT = sa.text("coalesce(endpoint, '')")


def upgrade() -> None:
    op.rename_table("rules", "all_rules")
    op.alter_column("all_rules", "client_id", nullable=True)
    op.add_column("all_rules", sa.Column("group", sa.Text))
    op.add_column("all_rules", sa.Column("layer", sa.Text, nullable=False, server_default="default"))
    op.add_column("all_rules", sa.Column("shared", sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.add_column("all_rules", sa.Column("needs", sa.SmallInteger, nullable=False, server_default=sa.text("0")))
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_all_rules_{name}"), "all_rules", condition)
    op.drop_index("uq_rules_who", "all_rules")
    # Without a client the index refuses nothing, because NULLs differ.
    op.create_index(
        "uq_all_rules_client", "all_rules", ["tenant_id", "client_id", "layer", ENDPOINT, "shadow"], unique=True
    )
    op.create_index(
        "uq_all_rules_group",
        "all_rules",
        ["tenant_id", "group", "layer", ENDPOINT, "shadow"],
        unique=True,
        postgresql_where=sa.text('"group" IS NOT NULL'),
    )
    op.create_index("ix_all_rules_needs", "all_rules", ["tenant_id"], postgresql_where=sa.text("needs > 0"))
    op.execute(VIEW)


def downgrade() -> None:
    """Delete the rules that the previous release does not understand."""
    op.execute("DROP VIEW rules")
    op.execute("DELETE FROM all_rules WHERE needs > 0")
    for name in ("ix_all_rules_needs", "uq_all_rules_group", "uq_all_rules_client"):
        op.drop_index(name, "all_rules")
    for name in CHECKS:
        op.drop_constraint(op.f(f"ck_all_rules_{name}"), "all_rules")
    for name in COLUMNS:
        op.drop_column("all_rules", name)
    op.alter_column("all_rules", "client_id", nullable=False)
    op.create_index("uq_rules_who", "all_rules", ["tenant_id", "client_id", ENDPOINT, "shadow"], unique=True)
    op.rename_table("all_rules", "rules")
