"""Forecasts that are shown until the records have moved on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "kept_forecasts",
        sa.Column("scope", sa.String(length=64), nullable=False, comment="a hash of who sees what"),
        sa.Column("made_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("log_id", sa.BigInteger(), nullable=False, comment="the newest change when it was made"),
        sa.Column(
            "champion",
            sa.String(length=80),
            nullable=False,
            comment="the model in charge then; empty for none",
        ),
        sa.Column("content", crm_core.columns.Json(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_kept_forecasts")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("kept_forecasts")
