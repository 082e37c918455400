"""Rules that act by themselves, their versions, what they did, and whose turn it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0028"
down_revision = "0025"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "automation_rules",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("shipped", sa.String(length=40), nullable=True, comment="its name, if it came along"),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="the version that counts"),
        sa.Column("since", crm_core.columns.Instant(), nullable=True, comment="when it was switched on last"),
        sa.Column(
            "since_sequence",
            sa.BigInteger(),
            nullable=False,
            comment="the last transaction it acts on nothing of",
        ),
        sa.Column(
            "since_prediction", sa.BigInteger(), nullable=False, comment="the last prediction likewise"
        ),
        sa.Column("since_alert", sa.BigInteger(), nullable=False, comment="the last alert likewise"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automation_rules")),
        sa.UniqueConstraint("shipped", name=op.f("uq_automation_rules_shipped")),
    )
    op.create_table(
        "automation_versions",
        sa.Column("rule_id", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column(
            "declared", crm_core.columns.Json(), nullable=False, comment="trigger, condition and actions"
        ),
        sa.Column("saved_by_id", _KEY, nullable=True, comment="NULL: it came along"),
        sa.Column("saved_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["automation_rules.id"], name=op.f("fk_automation_versions_rule_id")
        ),
        sa.ForeignKeyConstraint(
            ["saved_by_id"], ["users.id"], name=op.f("fk_automation_versions_saved_by_id")
        ),
        sa.PrimaryKeyConstraint("rule_id", "version", name=op.f("pk_automation_versions")),
    )
    _create_runs()
    op.create_table(
        "automation_turns",
        sa.Column("rule_id", _KEY, nullable=False),
        sa.Column("place", sa.String(length=220), nullable=False, comment="among whom: team:3"),
        sa.Column("user_id", _KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["automation_rules.id"], name=op.f("fk_automation_turns_rule_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_automation_turns_user_id")),
        sa.PrimaryKeyConstraint("rule_id", "place", name=op.f("pk_automation_turns")),
    )


def _create_runs() -> None:
    op.create_table(
        "automation_runs",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("rule_id", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(length=120), nullable=False, comment="what makes two causes the same"),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "caused_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when what set it off happened",
        ),
        sa.Column("at", crm_core.columns.Instant(), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column(
            "depth",
            sa.Integer(),
            nullable=False,
            comment="how many runs led to it, one setting off the next",
        ),
        sa.Column(
            "did",
            crm_core.columns.Json(),
            nullable=False,
            comment="by action: what it was done to, by numbers and words",
        ),
        sa.Column(
            "error", sa.String(length=60), nullable=True, comment="the kind of the error it failed with"
        ),
        sa.Column("sequence", sa.BigInteger(), nullable=True, comment="the transaction that wrote it"),
        sa.Column(
            "after_change", sa.BigInteger(), nullable=True, comment="what it wrote comes after this one"
        ),
        sa.Column("last_change", sa.BigInteger(), nullable=True, comment="the last change that it wrote"),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["automation_rules.id"], name=op.f("fk_automation_runs_rule_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automation_runs")),
        sa.UniqueConstraint("rule_id", "cause", name=op.f("uq_automation_runs_rule_id_cause")),
    )
    op.create_index("ix_automation_runs_rule_id_record_id", "automation_runs", ["rule_id", "record_id"])
    op.create_index("ix_automation_runs_sequence", "automation_runs", ["sequence"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("automation_turns")
    op.drop_table("automation_runs")
    op.drop_table("automation_versions")
    op.drop_table("automation_rules")
