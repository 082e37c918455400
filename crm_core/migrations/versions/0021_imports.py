"""Files that people import on the pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "imports",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("folder", sa.String(length=32), nullable=False, comment="below imports/ of the home"),
        sa.Column("file", sa.String(length=200), nullable=False, comment="what the file was called"),
        sa.Column("uploaded_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("plan", crm_core.columns.Json(), nullable=True, comment="which column becomes what"),
        sa.Column("report", crm_core.columns.Json(), nullable=True, comment="how many, never what"),
        sa.Column("failed", sa.String(length=500), nullable=True, comment="why nothing came of it"),
        sa.Column("ended_at", crm_core.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_imports_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_index("ix_imports_user_id_id", "imports", ["user_id", "id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("imports")
