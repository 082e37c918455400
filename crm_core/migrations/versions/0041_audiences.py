"""Segments that feed campaigns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "campaign_audiences",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("campaign_id", _KEY, nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=False, comment="the segment may be gone"),
        sa.Column("user_id", _KEY, nullable=False, comment="with whose rights"),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=False,
            comment="how far the log had come then",
        ),
        sa.Column("refreshed_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False, comment="members that it added"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_audiences_campaign_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_campaign_audiences_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_audiences")),
        sa.UniqueConstraint(
            "campaign_id", "segment_id", name=op.f("uq_campaign_audiences_campaign_id_segment_id")
        ),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("campaign_audiences")
