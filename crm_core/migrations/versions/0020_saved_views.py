"""Views and segments that people keep, and how they like the pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "saved_views",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("asked", crm_core.columns.Json(), nullable=False),
        sa.Column("shared", sa.String(length=10), nullable=False, comment="own, team or all"),
        sa.Column("saved_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_saved_views_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
    )
    op.create_index("ix_saved_views_record_type_user_id", "saved_views", ["record_type", "user_id"])
    op.create_table(
        "segments",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column(
            "filter", crm_core.columns.Json(), nullable=False, comment="conditions, as the API takes them"
        ),
        sa.Column("tag", sa.String(length=60), nullable=True, comment="the tag of what fits now"),
        sa.Column("shared", sa.String(length=10), nullable=False, comment="own, team or all"),
        sa.Column("saved_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_segments_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segments")),
    )
    op.create_index("ix_segments_record_type_user_id", "segments", ["record_type", "user_id"])
    op.create_table(
        "preferences",
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("keys", sa.Boolean(), nullable=False, comment="whether single letters go to pages"),
        sa.Column(
            "views",
            crm_core.columns.Json(),
            nullable=False,
            comment="by record type, the view that its list begins with",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_preferences_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_preferences")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("preferences")
    op.drop_table("segments")
    op.drop_table("saved_views")
