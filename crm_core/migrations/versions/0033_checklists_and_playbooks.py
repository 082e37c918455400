"""What is to be done in a stage, and the tasks that entering it makes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("stage_settings") as batch:
        batch.add_column(
            sa.Column(
                "checklist",
                crm_core.columns.Json(),
                nullable=True,
                comment="what is to be done in it: text, and whether before the deal leaves",
            )
        )
        batch.add_column(
            sa.Column(
                "playbook",
                crm_core.columns.Json(),
                nullable=True,
                comment="tasks that entering it makes: text, and after how many days they are due",
            )
        )
    op.create_table(
        "stage_ticks",
        sa.Column("deal_id", _KEY, nullable=False),
        sa.Column("stage", sa.String(length=80), nullable=False),
        sa.Column("item", sa.String(length=16), nullable=False, comment="the key of its text"),
        sa.Column("ticked_by_id", _KEY, nullable=False),
        sa.Column("ticked_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_stage_ticks_deal_id")),
        sa.ForeignKeyConstraint(["ticked_by_id"], ["users.id"], name=op.f("fk_stage_ticks_ticked_by_id")),
        sa.PrimaryKeyConstraint("deal_id", "stage", "item", name=op.f("pk_stage_ticks")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("stage_ticks")
    with op.batch_alter_table("stage_settings") as batch:
        batch.drop_column("playbook")
        batch.drop_column("checklist")
