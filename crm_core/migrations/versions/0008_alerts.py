"""Alerts, what was done about them, and whom to tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "alerts",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(length=120), nullable=False, comment="what makes two alerts the same"),
        sa.Column("contract_id", _KEY, nullable=True),
        sa.Column(
            "ends_on",
            crm_core.columns.Day(),
            nullable=True,
            comment="when the contract that it is about ends",
        ),
        sa.Column(
            "prediction_id", sa.BigInteger(), nullable=False, comment="what was said when it was raised"
        ),
        sa.Column("probability", sa.Double(), nullable=False, comment="as it was then"),
        sa.Column("previous", sa.Double(), nullable=True, comment="what the same model had said before"),
        sa.Column("money", crm_core.columns.Json(), nullable=True, comment="at risk then, by currency"),
        sa.Column(
            "at_risk",
            sa.Double(),
            nullable=True,
            comment="the largest of these sums, to sort by",
        ),
        sa.Column("raised_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("snoozed_until", crm_core.columns.Instant(), nullable=True),
        sa.Column("assignee_id", _KEY, nullable=True),
        sa.Column("acknowledged_by_id", _KEY, nullable=True),
        sa.Column("acknowledged_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("closed_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("closed_why", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(
            ["acknowledged_by_id"], ["users.id"], name=op.f("fk_alerts_acknowledged_by_id")
        ),
        sa.ForeignKeyConstraint(["assignee_id"], ["users.id"], name=op.f("fk_alerts_assignee_id")),
        sa.ForeignKeyConstraint(["contract_id"], ["contracts.id"], name=op.f("fk_alerts_contract_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("cause", name=op.f("uq_alerts_cause")),
    )
    op.create_index("ix_alerts_record_type_record_id", "alerts", ["record_type", "record_id"])
    op.create_index("ix_alerts_closed_at_at_risk", "alerts", ["closed_at", "at_risk"])
    op.create_table(
        "alert_actions",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("alert_id", _KEY, nullable=False),
        sa.Column("action", sa.String(length=12), nullable=False),
        sa.Column("at", crm_core.columns.Instant(), nullable=False),
        sa.Column("actor_id", _KEY, nullable=True, comment="NULL: the program"),
        sa.Column("note", sa.String(length=2000), nullable=True),
        sa.Column("until", crm_core.columns.Instant(), nullable=True, comment="of a snooze"),
        sa.Column("assignee_id", _KEY, nullable=True),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_alert_actions_actor_id")),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_actions_alert_id")),
        sa.ForeignKeyConstraint(["assignee_id"], ["users.id"], name=op.f("fk_alert_actions_assignee_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_actions")),
    )
    op.create_index("ix_alert_actions_alert_id", "alert_actions", ["alert_id"])
    op.create_table(
        "alert_receivers",
        sa.Column("alert_id", _KEY, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("why", sa.String(length=10), nullable=False),
        sa.Column(
            "told_at",
            crm_core.columns.Instant(),
            nullable=True,
            comment="NULL: not yet",
        ),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_receivers_alert_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_alert_receivers_user_id")),
        sa.PrimaryKeyConstraint("alert_id", "user_id", name=op.f("pk_alert_receivers")),
    )
    op.create_index("ix_alert_receivers_told_at_user_id", "alert_receivers", ["told_at", "user_id"])
    op.create_table(
        "alert_preferences",
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("mail", sa.String(length=10), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_alert_preferences_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_alert_preferences")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("alert_preferences")
    op.drop_table("alert_receivers")
    op.drop_table("alert_actions")
    op.drop_table("alerts")
