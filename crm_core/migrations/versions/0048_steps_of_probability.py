"""The index that scored records are listed by has steps of probability instead of probabilities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

_SCORED = ("leads", "deals")
_STEP = "CAST(coalesce(probability, -1) * 200 AS INTEGER)"
_FALLING = {"probability": "DESC NULLS LAST"}


def upgrade() -> None:
    """Apply."""
    for table in _SCORED:
        op.drop_index(f"ix_{table}_status_probability", table)
        op.create_index(f"ix_{table}_status_step", table, ["status", sa.text(_STEP)])


def downgrade() -> None:
    """Undo."""
    for table in _SCORED:
        op.drop_index(f"ix_{table}_status_step", table)
        op.create_index(
            f"ix_{table}_status_probability", table, ["status", "probability"], postgresql_ops=_FALLING
        )
