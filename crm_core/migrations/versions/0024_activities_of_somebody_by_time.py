"""What somebody did of late is found without reading all that they ever did."""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_activities_owner_id_occurred_at", "activities", ["owner_id", "occurred_at"])
    op.drop_index("ix_activities_owner_id", table_name="activities")


def downgrade() -> None:
    """Undo."""
    op.create_index("ix_activities_owner_id", "activities", ["owner_id"])
    op.drop_index("ix_activities_owner_id_occurred_at", table_name="activities")
