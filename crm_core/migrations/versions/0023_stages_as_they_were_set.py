"""What administrators set of the stages of pipelines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "stage_settings",
        sa.Column("pipeline", sa.String(length=80), nullable=False),
        sa.Column("stage", sa.String(length=80), nullable=False),
        sa.Column("name_en", sa.String(length=80), nullable=True),
        sa.Column("name_zh", sa.String(length=80), nullable=True),
        sa.Column(
            "rotting_days",
            sa.Integer(),
            nullable=True,
            comment="days after which a deal in it counts as stuck",
        ),
        sa.Column(
            "required",
            crm_core.columns.Json(),
            nullable=True,
            comment="fields that a deal needs before it enters; custom.NAME of a declared one",
        ),
        sa.Column("note", sa.String(length=500), nullable=True, comment="for whoever moves a deal there"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("set_by_id", _KEY, nullable=False),
        sa.Column("set_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_stage_settings_set_by_id")),
        sa.PrimaryKeyConstraint("pipeline", "stage", name=op.f("pk_stage_settings")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("stage_settings")
