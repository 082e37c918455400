"""How far the exchange with other systems has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "connection_marks",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False, comment="their name of the object"),
        sa.Column("mark", crm_core.columns.Json(), nullable=False, comment="in their own terms"),
        sa.Column("at", crm_core.columns.Instant(), nullable=False, comment="when it was written"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_marks")),
        sa.UniqueConstraint("connection", "kind", name=op.f("uq_connection_marks_connection_kind")),
    )
    op.create_table(
        "connection_told",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "scored_at",
            crm_core.columns.Instant(),
            nullable=True,
            comment="NULL: that there is none any more",
        ),
        sa.Column("model_version", sa.String(length=80), nullable=True),
        sa.Column("told_at", crm_core.columns.Instant(), nullable=True, comment="NULL: it was refused"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="refusals in a row"),
        sa.Column("next_at", crm_core.columns.Instant(), nullable=True, comment="when it is tried again"),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_told")),
        sa.UniqueConstraint(
            "connection",
            "record_type",
            "record_id",
            name=op.f("uq_connection_told_connection_record_type_record_id"),
        ),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("connection_told")
    op.drop_table("connection_marks")
