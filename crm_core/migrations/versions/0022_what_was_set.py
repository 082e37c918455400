"""What was set by an operation, in words of the program."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("operations") as batch:
        batch.add_column(
            sa.Column(
                "detail",
                sa.String(length=200),
                nullable=True,
                comment="what was set, in words of the program",
            )
        )


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("operations") as batch:
        batch.drop_column("detail")
