"""What keys are for, and when they were last used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; keys made before stay good for everything."""
    op.add_column(
        "tokens",
        sa.Column(
            "scopes",
            sa.String(length=80),
            nullable=True,
            comment="what it was made for, with spaces between; null: everything",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column("last_used_at", crm_core.columns.Instant(), nullable=True, comment="to about a minute"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_column("tokens", "last_used_at")
    op.drop_column("tokens", "scopes")
