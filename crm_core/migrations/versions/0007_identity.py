"""What keys are for; answers kept for requests that are sent again; logins; who read what."""

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
    op.create_table(
        "login_sessions",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of what the browser keeps"),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_login_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_sessions")),
        sa.UniqueConstraint("hash", name=op.f("uq_login_sessions_hash")),
    )
    op.create_index("ix_login_sessions_user_id", "login_sessions", ["user_id"])
    op.create_table(
        "operations",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", crm_core.columns.Instant(), nullable=False),
        sa.Column("done", sa.String(length=24), nullable=False),
        sa.Column("via", sa.String(length=8), nullable=False),
        sa.Column(
            "user_id",
            _KEY,
            nullable=True,
            comment="who; null: an address that nobody has, or the command line",
        ),
        sa.Column("token_id", sa.BigInteger(), nullable=True, comment="the API key it was done with, or to"),
        sa.Column("address", sa.String(length=45), nullable=True, comment="the network address it came from"),
        sa.Column("record_type", sa.String(length=40), nullable=True),
        sa.Column("record_ids", sa.Text(), nullable=True, comment="with a space before and after each"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_operations_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    op.create_index("ix_operations_at", "operations", ["at"])
    op.create_index("ix_operations_record_type_id", "operations", ["record_type", "id"])
    op.create_index("ix_operations_user_id_id", "operations", ["user_id", "id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("operations")
    op.drop_table("login_sessions")
    op.drop_table("kept_answers")
    op.drop_column("tokens", "last_used_at")
    op.drop_column("tokens", "scopes")
