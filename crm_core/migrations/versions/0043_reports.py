"""Reports that people keep and are sent, and an index that activities are counted along."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0043"
down_revision = "0041"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COUNTED = ("owner_id", "kind", "direction", "occurred_at", "recorded_at", "deleted_at")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "saved_reports",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column(
            "asked",
            crm_core.columns.Json(),
            nullable=False,
            comment="as `crm_core.reporting.keeping.Asked` reads it",
        ),
        sa.Column("shared", sa.String(length=10), nullable=False, comment="own, team or all"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("saved_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_saved_reports_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_reports")),
    )
    op.create_index("ix_saved_reports_user_id", "saved_reports", ["user_id"])
    op.create_table(
        "report_mails",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("report_id", _KEY, nullable=False),
        sa.Column("user_id", _KEY, nullable=False, comment="who receives it"),
        sa.Column("set_by_id", _KEY, nullable=False),
        sa.Column("every", sa.String(length=5), nullable=False, comment="day, week or month"),
        sa.Column(
            "day",
            sa.Integer(),
            nullable=False,
            comment="weekday from 0, Monday, or day of the month; 0 of every day",
        ),
        sa.Column("at", sa.String(length=5), nullable=False, comment="HH:MM on the wall clock of the zone"),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False, comment="by whoever receives it"),
        sa.Column("next_at", crm_core.columns.Instant(), nullable=False),
        sa.Column(
            "sent_at",
            crm_core.columns.Instant(),
            nullable=True,
            comment="the newest slot that was dealt with",
        ),
        sa.ForeignKeyConstraint(["report_id"], ["saved_reports.id"], name=op.f("fk_report_mails_report_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_report_mails_user_id")),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_report_mails_set_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_mails")),
        sa.UniqueConstraint("report_id", "user_id", name=op.f("uq_report_mails_report_id_user_id")),
    )
    op.create_index("ix_report_mails_next_at", "report_mails", ["next_at"])
    op.create_index("ix_report_mails_user_id", "report_mails", ["user_id"])
    op.create_index("ix_activities_counted", "activities", list(_COUNTED))


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_activities_counted", "activities")
    op.drop_table("report_mails")
    op.drop_table("saved_reports")
