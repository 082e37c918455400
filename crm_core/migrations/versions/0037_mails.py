"""Templates of mails, mails, and addresses that mails do not reach."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0037"
down_revision = "0035"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "mail_templates",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("user_id", _KEY, nullable=False, comment="whose it is"),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column(
            "language",
            sa.String(length=8),
            nullable=False,
            comment="en or zh: how numbers and days are written",
        ),
        sa.Column("shared", sa.String(length=10), nullable=False, comment="own, team or all"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("saved_at", crm_core.columns.Instant(), nullable=False),
        sa.Column(
            "retired_at",
            crm_core.columns.Instant(),
            nullable=True,
            comment="since when it is not offered any more",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_mail_templates_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_templates")),
    )
    op.create_index("ix_mail_templates_user_id", "mail_templates", ["user_id"])
    op.create_table(
        "messages",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(length=120), nullable=False, comment="see `kept_id`"),
        sa.Column("key", sa.String(length=120), nullable=True, comment="names the cause, if it has one"),
        sa.Column("direction", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False, comment="direct, service or marketing"),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("from_address", sa.String(length=320), nullable=True),
        sa.Column("to_addresses", crm_core.columns.Json(), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=True),
        sa.Column("text", sa.Text(), nullable=True, comment="the whole of one that came in, quotes included"),
        sa.Column("in_reply_to", sa.String(length=120), nullable=True),
        sa.Column(
            "references",
            crm_core.columns.Json(),
            nullable=True,
            comment="ids of the mails that it answers",
        ),
        sa.Column(
            "about_type", sa.String(length=40), nullable=True, comment="record type of what it is about"
        ),
        sa.Column("about_id", sa.BigInteger(), nullable=True),
        sa.Column("activity_id", _KEY, nullable=True),
        sa.Column("sender_id", _KEY, nullable=True, comment="the colleague who sent it"),
        sa.Column("template_id", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.BigInteger(), nullable=True, comment="of somebody's way through a sequence"),
        sa.Column("step", sa.Integer(), nullable=True),
        sa.Column(
            "leave_token", sa.String(length=43), nullable=True, comment="by which its receiver unsubscribes"
        ),
        sa.Column("source", sa.String(length=10), nullable=False, comment="crm, imap, upload or api"),
        sa.Column("problem", sa.String(length=300), nullable=True, comment="why it did not arrive"),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("sent_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("replied_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("bounced_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("unsubscribed_at", crm_core.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.id"], name=op.f("fk_messages_activity_id")),
        sa.ForeignKeyConstraint(["sender_id"], ["users.id"], name=op.f("fk_messages_sender_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("message_id", name=op.f("uq_messages_message_id")),
        sa.UniqueConstraint("key", name=op.f("uq_messages_key")),
        sa.UniqueConstraint("leave_token", name=op.f("uq_messages_leave_token")),
    )
    for columns in (["activity_id"], ["about_type", "about_id"], ["run_id"], ["template_id"]):
        op.create_index(f"ix_messages_{'_'.join(columns)}", "messages", columns)
    op.create_table(
        "dead_addresses",
        sa.Column("address", sa.String(length=320), nullable=False, comment="as it is compared"),
        sa.Column("problem", sa.String(length=300), nullable=True),
        sa.Column("bounced_at", crm_core.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_dead_addresses")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("dead_addresses")
    op.drop_table("messages")
    op.drop_table("mail_templates")
