"""Jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "jobs",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False, comment="which handler does it"),
        sa.Column("key", sa.String(length=200), nullable=True, comment="names the effect"),
        sa.Column("payload", crm_core.columns.Json(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("run_at", crm_core.columns.Instant(), nullable=False, comment="not to be claimed before"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="how often it was claimed"),
        sa.Column("leased_until", crm_core.columns.Instant(), nullable=True),
        sa.Column("leased_by", sa.String(length=80), nullable=True),
        sa.Column("last_error", sa.String(length=500), nullable=True),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("ended_at", crm_core.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("key", name=op.f("uq_jobs_key")),
    )
    op.create_index("ix_jobs_state_run_at_id", "jobs", ["state", "run_at", "id"])
    op.create_index("ix_jobs_state_ended_at", "jobs", ["state", "ended_at"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("jobs")
