"""Quotes with a process: list prices, approvals, numbers, and what is set of selling."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0031"
down_revision = "0029"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("quotes") as batch:
        batch.add_column(sa.Column("terms", sa.Text(), nullable=True, comment="printed below the lines"))
        batch.add_column(
            sa.Column(
                "approval",
                sa.String(length=10),
                nullable=True,
                comment="NULL: never asked for, or not needed",
            )
        )
        batch.add_column(sa.Column("rejected_reason", sa.String(length=200), nullable=True))
    with op.batch_alter_table("lines") as batch:
        batch.add_column(
            sa.Column(
                "list_price",
                crm_core.columns.Money(),
                nullable=True,
                comment="of the product when the line was written; NULL: not on the price list",
            )
        )
    for table in ("orders", "contracts"):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("quote_id", _KEY, nullable=True))
            batch.create_foreign_key(op.f(f"fk_{table}_quote_id"), "quotes", ["quote_id"], ["id"])
            batch.create_index(op.f(f"ix_{table}_quote_id"), ["quote_id"])
    with op.batch_alter_table("payments") as batch:
        batch.add_column(
            sa.Column(
                "part",
                sa.Integer(),
                nullable=True,
                comment="which part of the payment plan it is, or a share of it",
            )
        )
        batch.add_column(
            sa.Column(
                "reference",
                sa.String(length=120),
                nullable=True,
                comment="of the transfer that it came with",
            )
        )
    op.create_table(
        "approvals",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False, comment="what is to be approved"),
        sa.Column("quote_id", _KEY, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column(
            "given_away",
            sa.Double(),
            nullable=False,
            comment="share of the list price, as it was when it was asked for",
        ),
        sa.Column("amount", crm_core.columns.Money(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False, comment="of all that is approved"),
        sa.Column("asked_by_id", _KEY, nullable=False),
        sa.Column("asked_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("asked_in_id", _KEY, nullable=True, comment="the comment that says why"),
        sa.Column("approver_id", _KEY, nullable=True, comment="whom it waits for; NULL: whoever may"),
        sa.Column("decided_by_id", _KEY, nullable=True),
        sa.Column("decided_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("decided_in_id", _KEY, nullable=True, comment="the comment that says why"),
        sa.ForeignKeyConstraint(["quote_id"], ["quotes.id"], name=op.f("fk_approvals_quote_id")),
        sa.ForeignKeyConstraint(["asked_by_id"], ["users.id"], name=op.f("fk_approvals_asked_by_id")),
        sa.ForeignKeyConstraint(["asked_in_id"], ["comments.id"], name=op.f("fk_approvals_asked_in_id")),
        sa.ForeignKeyConstraint(["approver_id"], ["users.id"], name=op.f("fk_approvals_approver_id")),
        sa.ForeignKeyConstraint(["decided_by_id"], ["users.id"], name=op.f("fk_approvals_decided_by_id")),
        sa.ForeignKeyConstraint(["decided_in_id"], ["comments.id"], name=op.f("fk_approvals_decided_in_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index("ix_approvals_quote_id", "approvals", ["quote_id"])
    op.create_index("ix_approvals_state_approver_id", "approvals", ["state", "approver_id"])
    op.create_table(
        "number_series",
        sa.Column("name", sa.String(length=20), nullable=False, comment="such as Q-2026"),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_number_series")),
    )
    op.create_table(
        "sales_settings",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("company", sa.String(length=200), nullable=False, comment="our name on what is printed"),
        sa.Column("address", sa.String(length=1000), nullable=False, comment="printed below the name"),
        sa.Column(
            "footer", sa.String(length=1000), nullable=False, comment="printed at the end: bank, tax number"
        ),
        sa.Column(
            "limits",
            crm_core.columns.Json(),
            nullable=False,
            comment="by role, the share of the list price that it may give away, as text",
        ),
        sa.Column(
            "reminder_days",
            crm_core.columns.Json(),
            nullable=False,
            comment="days late at which people are reminded",
        ),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("set_by_id", _KEY, nullable=False),
        sa.Column("set_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_sales_settings_set_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sales_settings")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("sales_settings")
    op.drop_table("number_series")
    op.drop_table("approvals")
    with op.batch_alter_table("payments") as batch:
        batch.drop_column("reference")
        batch.drop_column("part")
    for table in ("contracts", "orders"):
        with op.batch_alter_table(table) as batch:
            batch.drop_index(op.f(f"ix_{table}_quote_id"))
            batch.drop_constraint(op.f(f"fk_{table}_quote_id"), type_="foreignkey")
            batch.drop_column("quote_id")
    with op.batch_alter_table("lines") as batch:
        batch.drop_column("list_price")
    with op.batch_alter_table("quotes") as batch:
        batch.drop_column("rejected_reason")
        batch.drop_column("approval")
        batch.drop_column("terms")
