"""Indexes for audit queries by subject and by client."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

CLIENT = "coalesce(after ->> 'client_id', before ->> 'client_id')"  # as in app/rules/sql/models.py


def upgrade() -> None:
    op.create_index("ix_audit_events_client", "audit_events", ["tenant_id", sa.text(CLIENT), "id"])
    op.create_index("ix_audit_events_subject", "audit_events", ["tenant_id", "subject", "id"])


def downgrade() -> None:
    op.drop_index("ix_audit_events_subject", "audit_events")
    op.drop_index("ix_audit_events_client", "audit_events")
