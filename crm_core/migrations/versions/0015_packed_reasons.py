"""Reasons are packed, and take a sixth of the room; those that are there are read as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from crm_core.packing import unpack_json

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TABLES = ("leads", "deals", "accounts", "predictions")
_LOT = 5_000


def upgrade() -> None:
    """Apply."""
    if op.get_bind().dialect.name != "postgresql":
        return  # a column of SQLite takes bytes beside texts
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} ALTER reasons TYPE bytea USING convert_to(reasons, 'UTF8')")
        op.execute(f"ALTER TABLE {table} ALTER reasons SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Undo, with what was packed written out."""
    connection = op.get_bind()
    on_postgresql = connection.dialect.name == "postgresql"
    for table in _TABLES:
        _write_out(connection, table, on_postgresql=on_postgresql)
        if on_postgresql:
            op.execute(f"ALTER TABLE {table} ALTER reasons TYPE text USING convert_from(reasons, 'UTF8')")
            op.execute(f"ALTER TABLE {table} ALTER reasons SET STORAGE EXTENDED")


def _write_out(connection: sa.Connection, table: str, *, on_postgresql: bool) -> None:
    """Write what was packed out as JSON, in the bytes or the text that the column then has."""
    read = sa.text(
        f"SELECT id, reasons FROM {table} WHERE id > :last AND reasons IS NOT NULL ORDER BY id LIMIT {_LOT}"  # noqa: S608  our own names
    )
    write = sa.text(f"UPDATE {table} SET reasons = :reasons WHERE id = :id")  # noqa: S608  our own names
    last = 0
    while rows := connection.execute(read, {"last": last}).all():
        last = rows[-1].id
        texts = {row.id: unpack_json(row.reasons) for row in rows}
        cells = {key: told.encode() if on_postgresql else told for key, told in texts.items()}
        connection.execute(write, [{"id": key, "reasons": cell} for key, cell in cells.items()])
