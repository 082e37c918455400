"""PostgreSQL's index of probabilities in the order in which lists show them."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_SCORED = ("leads", "deals")
_FALLING = {"probability": "DESC NULLS LAST"}


def upgrade() -> None:
    """Apply."""
    _index(_FALLING)


def downgrade() -> None:
    """Undo."""
    _index({})


def _index(order: dict[str, str]) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return  # SQLite reads its own backwards
    for table in _SCORED:
        name = f"ix_{table}_status_probability"
        op.drop_index(name, table)
        op.create_index(name, table, ["status", "probability"], postgresql_ops=order)
