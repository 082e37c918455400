"""What is to be scored again, and who is at it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    _work()
    _sweeps()
    _workers()
    # Sweeps were kept as cursors; without one of the new kind, one is due at once.
    op.execute("DELETE FROM cursors WHERE name LIKE 'sweep.%'")


def _work() -> None:
    instant = crm_core.columns.Instant
    op.create_table(
        "rescoring_work",
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "cause_change_id",
            sa.BigInteger(),
            nullable=True,
            comment="the newest change that asks for it; NULL: time or a new model",
        ),
        sa.Column("changed_at", instant(), nullable=False, comment="when the newest cause was recorded"),
        sa.Column("since", instant(), nullable=False, comment="when the oldest cause was recorded"),
        sa.Column("leased_by", sa.String(length=80), nullable=True, comment="the worker that is at it"),
        sa.Column("leased_until", instant(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="how often it could not be scored"),
        sa.Column("not_before", instant(), nullable=True, comment="when to try again"),
        sa.Column("error", sa.String(length=80), nullable=True, comment="why it could not be scored"),
        sa.Column("failed_at", instant(), nullable=True),
        sa.PrimaryKeyConstraint("task", "record_id", name=op.f("pk_rescoring_work")),
    )
    op.create_index("ix_rescoring_work_leased_by", "rescoring_work", ["leased_by"])


def _sweeps() -> None:
    instant = crm_core.columns.Instant
    op.create_table(
        "rescoring_sweeps",
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("as_of", instant(), nullable=False, comment="the instant it asks from"),
        sa.Column("model_version", sa.String(length=80), nullable=True),
        sa.Column(
            "settled_from",
            sa.BigInteger(),
            nullable=True,
            comment="the first transaction that cannot have recorded anything up to as_of",
        ),
        sa.Column(
            "log_position", sa.BigInteger(), nullable=False, comment="the last change it takes into account"
        ),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="the last record id in a lot"),
        sa.Column("until", sa.BigInteger(), nullable=False, comment="the last record id of all"),
        sa.Column("total", sa.Integer(), nullable=False, comment="records to score"),
        sa.Column("done", sa.Integer(), nullable=False, comment="records dealt with"),
        sa.Column("ended_at", instant(), nullable=True),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_rescoring_sweeps")),
    )
    op.create_table(
        "rescoring_lots",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("after_id", sa.BigInteger(), nullable=False),
        sa.Column("until_id", sa.BigInteger(), nullable=False),
        sa.Column("leased_by", sa.String(length=80), nullable=True),
        sa.Column("leased_until", instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescoring_lots")),
    )
    op.create_index("ix_rescoring_lots_task_id", "rescoring_lots", ["task", "id"])


def _workers() -> None:
    instant = crm_core.columns.Instant
    op.create_table(
        "rescoring_workers",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started_at", instant(), nullable=False),
        sa.Column("seen_at", instant(), nullable=False),
        sa.Column("scored", sa.BigInteger(), nullable=False, comment="records answered since it started"),
        sa.Column("lag_seconds", sa.Double(), nullable=True, comment="from the last change to its score"),
        sa.Column("error", sa.String(length=80), nullable=True, comment="what stopped its last step"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rescoring_workers")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("rescoring_workers")
    op.drop_table("rescoring_lots")
    op.drop_table("rescoring_sweeps")
    op.drop_table("rescoring_work")
