"""Jobs, and the endpoints of webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "jobs",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False, comment="which handler does it"),
        sa.Column("key", sa.String(length=200), nullable=True, comment="names the effect"),
        sa.Column("topic", sa.String(length=80), nullable=True, comment="what it is listed under"),
        sa.Column("payload", crm_core.columns.Json(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("run_at", crm_core.columns.Instant(), nullable=False, comment="not to be claimed before"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="how often it was claimed"),
        sa.Column("leased_until", crm_core.columns.Instant(), nullable=True),
        sa.Column("leased_by", sa.String(length=80), nullable=True),
        sa.Column("last_error", sa.String(length=500), nullable=True),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("ended_at", crm_core.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("key", name=op.f("uq_jobs_key")),
    )
    op.create_index("ix_jobs_state_run_at_id", "jobs", ["state", "run_at", "id"])
    op.create_index("ix_jobs_state_ended_at", "jobs", ["state", "ended_at"])
    op.create_index("ix_jobs_topic_id", "jobs", ["topic", "id"])
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column(
            "event_types", crm_core.columns.Json(), nullable=False, comment="such as deal.won, lead.* or *"
        ),
        sa.Column("owner_id", _KEY, nullable=False, comment="what they may not see is not told"),
        sa.Column("least_change", sa.Double(), nullable=False, comment="of a probability, for it to be told"),
        sa.Column("secret_salt", sa.String(length=64), nullable=False),
        sa.Column(
            "secret_mark", sa.String(length=64), nullable=False, comment="SHA-256 of the secret made with it"
        ),
        sa.Column("former_salt", sa.String(length=64), nullable=True, comment="of the secret before"),
        sa.Column(
            "former_until", crm_core.columns.Instant(), nullable=True, comment="until when that signs, too"
        ),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("disabled_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("disabled_reason", sa.String(length=300), nullable=True),
        sa.Column(
            "failing_since", crm_core.columns.Instant(), nullable=True, comment="no delivery went well since"
        ),
        sa.Column(
            "since_sequence",
            sa.BigInteger(),
            nullable=False,
            comment="the last transaction it is not told of",
        ),
        sa.Column(
            "since_prediction", sa.BigInteger(), nullable=False, comment="the last prediction likewise"
        ),
        sa.Column("since_promotion", sa.BigInteger(), nullable=False, comment="the last promotion likewise"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_webhook_endpoints_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("webhook_endpoints")
    op.drop_table("jobs")
