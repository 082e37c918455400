"""Tickets by when they were opened: lists and figures of the last months look at few of many."""

from __future__ import annotations

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_tickets_occurred_at", "tickets", ["occurred_at"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_tickets_occurred_at", table_name="tickets")
