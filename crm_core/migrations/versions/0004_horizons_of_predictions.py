"""Predictions keep all their horizons, the expected time, and what the customer is worth in a year."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = ("within", "expected_days", "yearly_value")


def upgrade() -> None:
    """Apply; of predictions made before, only the horizon that was shown is known."""
    op.add_column(
        "predictions",
        sa.Column(
            "within",
            crm_core.columns.Json(),
            nullable=True,
            comment="probability by horizon in days; null in it: too few were followed for so long",
        ),
    )
    op.add_column(
        "predictions",
        sa.Column(
            "expected_days",
            sa.Double(),
            nullable=True,
            comment="mean days until it happens, given that it does within the longest horizon",
        ),
    )
    op.add_column(
        "predictions",
        sa.Column(
            "yearly_value",
            crm_core.columns.Json(),
            nullable=True,
            comment="of customers: what they bring in a year, by currency",
        ),
    )


def downgrade() -> None:
    """Undo."""
    for column in reversed(_COLUMNS):
        op.drop_column("predictions", column)
