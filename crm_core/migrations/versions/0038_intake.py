"""What came in and waits in the tray, how far mailboxes were read, and calendar feeds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "intake_items",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column(
            "key", sa.String(length=200), nullable=False, comment="what tells it from others of its kind"
        ),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column(
            "who", sa.String(length=320), nullable=True, comment="address or number that it is from or to"
        ),
        sa.Column("title", sa.String(length=300), nullable=True),
        sa.Column("said", crm_core.columns.Json(), nullable=False),
        sa.Column(
            "candidates",
            crm_core.columns.Json(),
            nullable=False,
            comment="record types and ids that it may be about",
        ),
        sa.Column("message_id", _KEY, nullable=True, comment="of a mail"),
        sa.Column("happened_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("received_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("settled_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("settled_by_id", _KEY, nullable=True),
        sa.Column("activity_id", _KEY, nullable=True),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_intake_items_message_id")),
        sa.ForeignKeyConstraint(["settled_by_id"], ["users.id"], name=op.f("fk_intake_items_settled_by_id")),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.id"], name=op.f("fk_intake_items_activity_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intake_items")),
    )
    op.create_index("ix_intake_items_state_id", "intake_items", ["state", "id"])
    op.create_index("ix_intake_items_kind_key", "intake_items", ["kind", "key"], unique=True)
    op.create_table(
        "mailboxes",
        sa.Column("name", sa.String(length=200), nullable=False, comment="user, server and folder"),
        sa.Column("uid_validity", sa.BigInteger(), nullable=False),
        sa.Column("last_uid", sa.BigInteger(), nullable=False),
        sa.Column("leased_by", sa.String(length=80), nullable=True),
        sa.Column("leased_until", crm_core.columns.Instant(), nullable=True),
        sa.Column(
            "looked_at",
            crm_core.columns.Instant(),
            nullable=True,
            comment="when all of it was read last",
        ),
        sa.Column("problem", sa.String(length=300), nullable=True, comment="why it could not be read since"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_mailboxes")),
    )
    op.create_table(
        "calendar_feeds",
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of the 256-bit secret"),
        sa.Column("made_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_calendar_feeds_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_calendar_feeds")),
        sa.UniqueConstraint("hash", name=op.f("uq_calendar_feeds_hash")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("calendar_feeds")
    op.drop_table("mailboxes")
    op.drop_table("intake_items")
