"""That people were told of payments that are late."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "payment_reminders",
        sa.Column("payment_id", _KEY, nullable=False),
        sa.Column("days", sa.Integer(), nullable=False, comment="the level: days late at which it is told"),
        sa.Column("told_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_reminders_payment_id")
        ),
        sa.PrimaryKeyConstraint("payment_id", "days", name=op.f("pk_payment_reminders")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("payment_reminders")
