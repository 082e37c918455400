"""What people say of scores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "score_feedback",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("prediction_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("model_version", sa.String(length=80), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("verdict", sa.String(length=10), nullable=False, comment="right or wrong"),
        sa.Column("reason", sa.String(length=20), nullable=True, comment="what is wrong, in a word"),
        sa.Column("text", sa.String(length=2000), nullable=True),
        sa.Column("given_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_score_feedback_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score_feedback")),
    )
    op.create_index("ix_score_feedback_prediction_id_user_id", "score_feedback", ["prediction_id", "user_id"])
    op.create_index("ix_score_feedback_task_model_version", "score_feedback", ["task", "model_version"])
    op.create_index("ix_score_feedback_record_type_record_id", "score_feedback", ["record_type", "record_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("score_feedback")
