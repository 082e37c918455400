"""How many records somebody wants to work a day, and steps by when they are due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "day_plans",
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("records_a_day", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_day_plans_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_day_plans")),
    )
    # Hardly any activity is due at some time: an index of those few.
    op.create_index(
        "ix_activities_due_at", "activities", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_activities_due_at", "activities")
    op.drop_table("day_plans")
