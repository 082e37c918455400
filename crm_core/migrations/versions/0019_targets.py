"""What people and teams are to reach."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "targets",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("whose", sa.String(length=4), nullable=False, comment="user or team"),
        sa.Column("whose_id", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.String(length=7), nullable=False, comment="2026-03 or 2026-Q1"),
        sa.Column("measure", sa.String(length=20), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False, comment="of amounts; empty for counts"),
        sa.Column("value", crm_core.columns.Money(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("set_by_id", _KEY, nullable=False),
        sa.Column("set_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_targets_set_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_targets")),
        sa.UniqueConstraint(
            "whose",
            "whose_id",
            "period",
            "measure",
            "currency",
            name=op.f("uq_targets_whose_whose_id_period_measure_currency"),
        ),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("targets")
