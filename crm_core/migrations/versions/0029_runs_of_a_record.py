"""What rules did about one record is found by it."""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_NAME = "ix_automation_runs_record_type_record_id"


def upgrade() -> None:
    """Apply."""
    op.create_index(_NAME, "automation_runs", ["record_type", "record_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index(_NAME, "automation_runs")
