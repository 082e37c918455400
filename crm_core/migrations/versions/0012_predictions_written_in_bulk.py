"""One index for the history of predictions, and room on pages for scores that change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KEY_BEFORE = ("task", "record_id", "as_of", "model_version")
_KEY = ("record_id", "as_of", "task", "model_version")
_INDEX = "ix_predictions_record_type_record_id_as_of"

_LINKS = ("campaign_id", "account_id", "contact_id", "deal_id")
"""Links of leads, which few open ones have: only those are in the index."""

_SCORED = ("leads", "deals", "accounts")
_FILLED = 75
"""Share of a page in percent that new rows fill; a row that gets another score finds room beside itself."""


def upgrade() -> None:
    """Apply."""
    _change_key(_KEY_BEFORE, _KEY)
    with op.batch_alter_table("predictions", schema=None) as batch_op:
        batch_op.drop_index(_INDEX)
    for link in _LINKS:
        op.drop_index(f"ix_leads_{link}", "leads")
        present = sa.text(f"{link} IS NOT NULL")
        op.create_index(f"ix_leads_{link}", "leads", [link], sqlite_where=present, postgresql_where=present)
    if op.get_bind().dialect.name == "postgresql":
        for table in _SCORED:
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {_FILLED})")


def downgrade() -> None:
    """Undo."""
    if op.get_bind().dialect.name == "postgresql":
        for table in _SCORED:
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    for link in _LINKS:
        op.drop_index(f"ix_leads_{link}", "leads")
        op.create_index(f"ix_leads_{link}", "leads", [link])
    _change_key(_KEY, _KEY_BEFORE)
    with op.batch_alter_table("predictions", schema=None) as batch_op:
        batch_op.create_index(_INDEX, ["record_type", "record_id", "as_of"], unique=False)


def _change_key(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    with op.batch_alter_table("predictions", schema=None) as batch_op:
        batch_op.drop_constraint(f"uq_predictions_{'_'.join(before)}", type_="unique")
        batch_op.create_unique_constraint(f"uq_predictions_{'_'.join(after)}", list(after))
