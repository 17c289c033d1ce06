"""API keys record their maker, the key that they rotate, and the name under which forward auth counts them.

Nodes of the previous release ignore these columns. The keys that they create have none, and count by themselves.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COLUMNS = ("maker", "rotation_of", "owner")
INDEXED = ("maker", "rotation_of")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("api_keys", sa.Column(name, sa.Text))
    op.create_check_constraint(op.f("ck_api_keys_owner"), "api_keys", "length(owner) BETWEEN 1 AND 75")
    for name in INDEXED:
        op.create_index(f"ix_api_keys_{name}", "api_keys", [name])


def downgrade() -> None:
    for name in INDEXED:
        op.drop_index(f"ix_api_keys_{name}", "api_keys")
    op.drop_constraint(op.f("ck_api_keys_owner"), "api_keys")
    for name in reversed(COLUMNS):
        op.drop_column("api_keys", name)
