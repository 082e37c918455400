"""Challengers, and what they would have said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "challengers",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("model_version", sa.String(length=80), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="of the bytes of the model file"),
        sa.Column("run_id", sa.String(length=64), nullable=False, comment="the MLflow run that made it"),
        sa.Column("named_at", crm_core.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_challengers")),
    )
    op.create_index("ix_challengers_task_id", "challengers", ["task", "id"])
    op.create_table(
        "shadow_predictions",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("as_of", crm_core.columns.Instant(), nullable=False),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when it was written"),
        sa.Column("model_version", sa.String(length=80), nullable=False, comment="the challenger"),
        sa.Column("champion_version", sa.String(length=80), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("champion_probability", sa.Double(), nullable=False),
        sa.Column("grade", sa.String(length=1), nullable=True),
        sa.Column("champion_grade", sa.String(length=1), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_predictions")),
        sa.UniqueConstraint(
            "task",
            "record_id",
            "as_of",
            "model_version",
            name=op.f("uq_shadow_predictions_task_record_id_as_of_model_version"),
        ),
    )
    op.create_index(
        "ix_shadow_predictions_task_model_version_id",
        "shadow_predictions",
        ["task", "model_version", "id"],
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("shadow_predictions")
    op.drop_table("challengers")
