"""When people work, and when somebody is away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "working_weeks",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False, comment="time zone of the hours"),
        sa.Column(
            "hours",
            crm_core.columns.Json(),
            nullable=False,
            comment="by weekday from 0, Monday: pairs of HH:MM",
        ),
        sa.Column("country", sa.String(length=2), nullable=True, comment="whose public holidays are kept"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("set_by_id", _KEY, nullable=False),
        sa.Column("set_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_working_weeks_set_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_working_weeks")),
    )
    op.create_table(
        "special_days",
        sa.Column("day", crm_core.columns.Day(), nullable=False),
        sa.Column(
            "worked", sa.Boolean(), nullable=False, comment="with the hours of a usual working day; else off"
        ),
        sa.Column("name", sa.String(length=120), nullable=True),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_special_days")),
    )
    op.create_table(
        "absences",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("first_day", crm_core.columns.Day(), nullable=False),
        sa.Column("last_day", crm_core.columns.Day(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_absences_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_absences")),
    )
    op.create_index("ix_absences_user_id_last_day", "absences", ["user_id", "last_day"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("absences")
    op.drop_table("special_days")
    op.drop_table("working_weeks")
