"""Failed logins are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "login_failures",
        sa.Column("key", sa.String(length=64), nullable=False, comment="SHA-256 of the address"),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", crm_core.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failures")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("login_failures")
