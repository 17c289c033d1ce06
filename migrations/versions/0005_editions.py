"""Each change of rules or keys draws a random edition: a restore can repeat a version, but not an edition.

Nodes of the previous release raise only the version, so nodes compare both.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    drawn = sa.text("gen_random_uuid()")
    op.add_column("rule_book", sa.Column("edition", sa.Uuid, nullable=False, server_default=drawn))


def downgrade() -> None:
    op.drop_column("rule_book", "edition")
