"""What is added to the transaction ids of a server that a change log was moved to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "log_offset",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_offset")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("log_offset")
