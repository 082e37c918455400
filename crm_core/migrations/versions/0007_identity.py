"""What keys are for and when they were last used; answers kept for requests that are sent again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply; keys made before stay good for everything."""
    op.add_column(
        "tokens",
        sa.Column(
            "scopes",
            sa.String(length=80),
            nullable=True,
            comment="what it was made for, with spaces between; null: everything",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column("last_used_at", crm_core.columns.Instant(), nullable=True, comment="to about a minute"),
    )
    op.create_table(
        "kept_answers",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column(
            "fingerprint", sa.String(length=64), nullable=False, comment="SHA-256 of method, path and body"
        ),
        sa.Column("status", sa.Integer(), nullable=True, comment="null only inside of the transaction"),
        sa.Column("headers", crm_core.columns.Json(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True, comment="null: a secret, or forgotten with a person"),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_kept_answers_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_answers")),
        sa.UniqueConstraint("user_id", "key", name=op.f("uq_kept_answers_user_id_key")),
    )
    op.create_index("ix_kept_answers_created_at", "kept_answers", ["created_at"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("kept_answers")
    op.drop_column("tokens", "last_used_at")
    op.drop_column("tokens", "scopes")
