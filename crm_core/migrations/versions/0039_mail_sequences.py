"""Mail sequences, and who goes through them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "mail_sequences",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False, comment="who made it"),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("record_type", sa.String(length=10), nullable=False, comment="lead or contact"),
        sa.Column(
            "steps", crm_core.columns.Json(), nullable=False, comment="template_id, wait_days, working"
        ),
        sa.Column(
            "segment_id",
            sa.BigInteger(),
            nullable=True,
            comment="whoever is in it begins by themselves",
        ),
        sa.Column("active", sa.Boolean(), nullable=False, comment="whether mails of it go out"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("saved_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_mail_sequences_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_sequences")),
    )
    op.create_table(
        "sequence_runs",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("sequence_id", _KEY, nullable=False),
        sa.Column("record_type", sa.String(length=10), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(length=320), nullable=False, comment="as it is compared"),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("why", sa.String(length=300), nullable=True, comment="why it ended"),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("next_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("started_by_id", _KEY, nullable=True),
        sa.Column("started_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("ended_at", crm_core.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["sequence_id"], ["mail_sequences.id"], name=op.f("fk_sequence_runs_sequence_id")
        ),
        sa.ForeignKeyConstraint(["started_by_id"], ["users.id"], name=op.f("fk_sequence_runs_started_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_runs")),
        sa.UniqueConstraint("sequence_id", "address", name=op.f("uq_sequence_runs_sequence_id_address")),
    )
    op.create_index("ix_sequence_runs_state_next_at", "sequence_runs", ["state", "next_at"])
    op.create_index("ix_sequence_runs_address", "sequence_runs", ["address"])
    op.create_index("ix_sequence_runs_record_type_record_id", "sequence_runs", ["record_type", "record_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("sequence_runs")
    op.drop_table("mail_sequences")
