"""What people are told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "notifications",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False, comment="whom it tells"),
        sa.Column("actor_id", _KEY, nullable=True, comment="whose doing it is"),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column(
            "about_type", sa.String(length=40), nullable=True, comment="record type of what it is about"
        ),
        sa.Column("about_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "text",
            sa.String(length=80),
            nullable=False,
            comment="which sentence it is, in words of the program",
        ),
        sa.Column("params", crm_core.columns.Json(), nullable=True, comment="numbers, ids and words for it"),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("read_at", crm_core.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_notifications_user_id")),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_notifications_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index("ix_notifications_user_id_read_at_id", "notifications", ["user_id", "read_at", "id"])
    op.create_index("ix_notifications_about_type_about_id", "notifications", ["about_type", "about_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("notifications")
