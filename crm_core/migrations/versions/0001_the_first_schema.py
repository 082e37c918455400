"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "coverage",
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("observed_until", crm_core.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("record_type", name=op.f("pk_coverage")),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="id of the last change dealt with"),
        sa.Column("batch_until", sa.BigInteger(), nullable=True, comment="last change of the begun batch"),
        sa.Column(
            "batch_as_of", crm_core.columns.Instant(), nullable=True, comment="the instant it asks from"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "fields",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column(
            "name", sa.String(length=120), nullable=False, comment="custom.NAME, or the name of a column"
        ),
        sa.Column("kind", sa.String(length=10), nullable=True, comment="of a custom field"),
        sa.Column("known", sa.String(length=10), nullable=False),
        sa.Column("label_en", sa.String(length=200), nullable=True),
        sa.Column("label_zh", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fields")),
        sa.UniqueConstraint("record_type", "name", name=op.f("uq_fields_record_type_name")),
    )
    op.create_table(
        "predictions",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("as_of", crm_core.columns.Instant(), nullable=False),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when it was written"),
        sa.Column("model_version", sa.String(length=80), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True, comment="NULL: not enough data to say"),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("grade", sa.String(length=1), nullable=True),
        sa.Column("reasons", crm_core.columns.Json(), nullable=True),
        sa.Column(
            "cause_change_id",
            sa.BigInteger(),
            nullable=True,
            comment="the change that led to it; NULL: time or a new model",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
        sa.UniqueConstraint(
            "task",
            "record_id",
            "as_of",
            "model_version",
            name=op.f("uq_predictions_task_record_id_as_of_model_version"),
        ),
    )
    with op.batch_alter_table("predictions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_predictions_record_type_record_id_as_of", ["record_type", "record_id", "as_of"], unique=False
        )

    op.create_table(
        "teams",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("parent_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["parent_id"], ["teams.id"], name=op.f("fk_teams_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("external_id", name=op.f("uq_teams_external_id")),
    )
    op.create_table(
        "users",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("team_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column(
            "language", sa.String(length=8), nullable=True, comment="en or zh; NULL follows the browser"
        ),
        sa.Column("time_zone", sa.String(length=64), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("left_at", crm_core.columns.Instant(), nullable=True, comment="when the person left"),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_users_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("external_id", name=op.f("uq_users_external_id")),
    )
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_users_team_id"), ["team_id"], unique=False)

    op.create_table(
        "accounts",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("industry", sa.String(length=120), nullable=True),
        sa.Column("region", sa.String(length=120), nullable=True),
        sa.Column("employees", sa.Integer(), nullable=True),
        sa.Column("phone", sa.String(length=64), nullable=True),
        sa.Column("website", sa.String(length=300), nullable=True),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True, comment="newest prediction, in [0, 1]"),
        sa.Column("previous_probability", sa.Double(), nullable=True, comment="the prediction before it"),
        sa.Column(
            "score", sa.Integer(), nullable=True, comment="probability's rank among open records, 0-100"
        ),
        sa.Column("grade", sa.String(length=1), nullable=True, comment="A best to D"),
        sa.Column("trend", sa.String(length=8), nullable=True, comment="up, down or flat"),
        sa.Column("reasons", crm_core.columns.Json(), nullable=True),
        sa.Column(
            "scored_at", crm_core.columns.Instant(), nullable=True, comment="as_of of the newest prediction"
        ),
        sa.Column("model_version", sa.String(length=80), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_accounts_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("external_id", name=op.f("uq_accounts_external_id")),
    )
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_accounts_owner_id"), ["owner_id"], unique=False)

    op.create_table(
        "changes",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("field", sa.String(length=120), nullable=True),
        sa.Column("old", crm_core.columns.Json(), nullable=True),
        sa.Column("new", crm_core.columns.Json(), nullable=True),
        sa.Column("occurred_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("actor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_changes_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
    )
    with op.batch_alter_table("changes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_changes_record_type_field_record_id", ["record_type", "field", "record_id"], unique=False
        )
        batch_op.create_index("ix_changes_record_type_record_id", ["record_type", "record_id"], unique=False)

    op.create_table(
        "promotions",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("model_version", sa.String(length=80), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="of the bytes of the model file"),
        sa.Column("run_id", sa.String(length=64), nullable=False, comment="the MLflow run that made it"),
        sa.Column("promoted_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("actor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column(
            "gate", crm_core.columns.Json(), nullable=True, comment="what was compared, and the result"
        ),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_promotions_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    with op.batch_alter_table("promotions", schema=None) as batch_op:
        batch_op.create_index("ix_promotions_task_id", ["task", "id"], unique=False)

    op.create_table(
        "tokens",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of the 256-bit key"),
        sa.Column("created_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("expires_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("revoked_at", crm_core.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tokens_user_id"), ["user_id"], unique=False)

    op.create_table(
        "contacts",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("phone", sa.String(length=64), nullable=True),
        sa.Column("title", sa.String(length=200), nullable=True),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_contacts_account_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_contacts_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contacts")),
        sa.UniqueConstraint("external_id", name=op.f("uq_contacts_external_id")),
    )
    with op.batch_alter_table("contacts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contacts_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_contacts_owner_id"), ["owner_id"], unique=False)

    op.create_table(
        "deals",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("pipeline", sa.String(length=80), nullable=False),
        sa.Column("stage", sa.String(length=80), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("amount", crm_core.columns.Money(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("source", sa.String(length=120), nullable=True),
        sa.Column("expected_close_on", crm_core.columns.Day(), nullable=True, comment="the rep's forecast"),
        sa.Column("closed_at", crm_core.columns.Instant(), nullable=True, comment="the fact"),
        sa.Column("lost_reason", sa.String(length=200), nullable=True),
        sa.Column("rep_probability", sa.Double(), nullable=True, comment="what the rep believes, in [0, 1]"),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True, comment="newest prediction, in [0, 1]"),
        sa.Column("previous_probability", sa.Double(), nullable=True, comment="the prediction before it"),
        sa.Column(
            "score", sa.Integer(), nullable=True, comment="probability's rank among open records, 0-100"
        ),
        sa.Column("grade", sa.String(length=1), nullable=True, comment="A best to D"),
        sa.Column("trend", sa.String(length=8), nullable=True, comment="up, down or flat"),
        sa.Column("reasons", crm_core.columns.Json(), nullable=True),
        sa.Column(
            "scored_at", crm_core.columns.Instant(), nullable=True, comment="as_of of the newest prediction"
        ),
        sa.Column("model_version", sa.String(length=80), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_deals_account_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_deals_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deals")),
        sa.UniqueConstraint("external_id", name=op.f("uq_deals_external_id")),
    )
    with op.batch_alter_table("deals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deals_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deals_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index("ix_deals_status_probability", ["status", "probability"], unique=False)

    op.create_table(
        "contracts",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("number", sa.String(length=120), nullable=True),
        sa.Column("starts_on", crm_core.columns.Day(), nullable=False),
        sa.Column("ends_on", crm_core.columns.Day(), nullable=False),
        sa.Column("value", crm_core.columns.Money(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column(
            "ended_at", crm_core.columns.Instant(), nullable=True, comment="when it ended without renewal"
        ),
        sa.Column("renewed_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_contracts_account_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_contracts_deal_id")),
        sa.ForeignKeyConstraint(["renewed_by_id"], ["contracts.id"], name=op.f("fk_contracts_renewed_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contracts")),
        sa.UniqueConstraint("external_id", name=op.f("uq_contracts_external_id")),
    )
    with op.batch_alter_table("contracts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contracts_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_contracts_deal_id"), ["deal_id"], unique=False)

    op.create_table(
        "leads",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("company", sa.String(length=300), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("phone", sa.String(length=64), nullable=True),
        sa.Column("title", sa.String(length=200), nullable=True),
        sa.Column("source", sa.String(length=120), nullable=True),
        sa.Column("campaign", sa.String(length=200), nullable=True),
        sa.Column("industry", sa.String(length=120), nullable=True),
        sa.Column("region", sa.String(length=120), nullable=True),
        sa.Column("employees", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("converted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("disqualified_reason", sa.String(length=200), nullable=True),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("deal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True, comment="newest prediction, in [0, 1]"),
        sa.Column("previous_probability", sa.Double(), nullable=True, comment="the prediction before it"),
        sa.Column(
            "score", sa.Integer(), nullable=True, comment="probability's rank among open records, 0-100"
        ),
        sa.Column("grade", sa.String(length=1), nullable=True, comment="A best to D"),
        sa.Column("trend", sa.String(length=8), nullable=True, comment="up, down or flat"),
        sa.Column("reasons", crm_core.columns.Json(), nullable=True),
        sa.Column(
            "scored_at", crm_core.columns.Instant(), nullable=True, comment="as_of of the newest prediction"
        ),
        sa.Column("model_version", sa.String(length=80), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_leads_account_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_leads_contact_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_leads_deal_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_leads_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leads")),
        sa.UniqueConstraint("external_id", name=op.f("uq_leads_external_id")),
    )
    with op.batch_alter_table("leads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leads_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leads_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leads_deal_id"), ["deal_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leads_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index("ix_leads_status_probability", ["status", "probability"], unique=False)

    op.create_table(
        "orders",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("number", sa.String(length=120), nullable=True),
        sa.Column("amount", crm_core.columns.Money(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_orders_account_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_orders_deal_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("external_id", name=op.f("uq_orders_external_id")),
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_orders_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_orders_deal_id"), ["deal_id"], unique=False)

    op.create_table(
        "tickets",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("priority", sa.String(length=20), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("closed_at", crm_core.columns.Instant(), nullable=True),
        sa.Column(
            "satisfaction", sa.Integer(), nullable=True, comment="1 (bad) to 5 (good), asked after closing"
        ),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_tickets_account_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_tickets_contact_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_tickets_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
        sa.UniqueConstraint("external_id", name=op.f("uq_tickets_external_id")),
    )
    with op.batch_alter_table("tickets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tickets_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_tickets_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_tickets_owner_id"), ["owner_id"], unique=False)

    op.create_table(
        "activities",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("direction", sa.String(length=10), nullable=True),
        sa.Column("subject", sa.String(length=300), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("outcome", sa.String(length=120), nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column(
            "due_at", crm_core.columns.Instant(), nullable=True, comment="of a task or planned meeting"
        ),
        sa.Column("lead_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("deal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "occurred_at",
            crm_core.columns.Instant(),
            nullable=False,
            comment="when it came to exist or happened",
        ),
        sa.Column("recorded_at", crm_core.columns.Instant(), nullable=False, comment="when we learned of it"),
        sa.Column("deleted_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts edits; scores do not count"),
        sa.Column("custom", crm_core.columns.Json(), nullable=True, comment="values of custom fields"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_activities_account_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_activities_contact_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_activities_deal_id")),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name=op.f("fk_activities_lead_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_activities_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activities")),
        sa.UniqueConstraint("external_id", name=op.f("uq_activities_external_id")),
    )
    with op.batch_alter_table("activities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_activities_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_activities_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_activities_deal_id"), ["deal_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_activities_lead_id"), ["lead_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_activities_owner_id"), ["owner_id"], unique=False)


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("activities", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_activities_owner_id"))
        batch_op.drop_index(batch_op.f("ix_activities_lead_id"))
        batch_op.drop_index(batch_op.f("ix_activities_deal_id"))
        batch_op.drop_index(batch_op.f("ix_activities_contact_id"))
        batch_op.drop_index(batch_op.f("ix_activities_account_id"))

    op.drop_table("activities")
    with op.batch_alter_table("tickets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tickets_owner_id"))
        batch_op.drop_index(batch_op.f("ix_tickets_contact_id"))
        batch_op.drop_index(batch_op.f("ix_tickets_account_id"))

    op.drop_table("tickets")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_orders_deal_id"))
        batch_op.drop_index(batch_op.f("ix_orders_account_id"))

    op.drop_table("orders")
    with op.batch_alter_table("leads", schema=None) as batch_op:
        batch_op.drop_index("ix_leads_status_probability")
        batch_op.drop_index(batch_op.f("ix_leads_owner_id"))
        batch_op.drop_index(batch_op.f("ix_leads_deal_id"))
        batch_op.drop_index(batch_op.f("ix_leads_contact_id"))
        batch_op.drop_index(batch_op.f("ix_leads_account_id"))

    op.drop_table("leads")
    with op.batch_alter_table("contracts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_contracts_deal_id"))
        batch_op.drop_index(batch_op.f("ix_contracts_account_id"))

    op.drop_table("contracts")
    with op.batch_alter_table("deals", schema=None) as batch_op:
        batch_op.drop_index("ix_deals_status_probability")
        batch_op.drop_index(batch_op.f("ix_deals_owner_id"))
        batch_op.drop_index(batch_op.f("ix_deals_account_id"))

    op.drop_table("deals")
    with op.batch_alter_table("contacts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_contacts_owner_id"))
        batch_op.drop_index(batch_op.f("ix_contacts_account_id"))

    op.drop_table("contacts")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tokens_user_id"))

    op.drop_table("tokens")
    with op.batch_alter_table("promotions", schema=None) as batch_op:
        batch_op.drop_index("ix_promotions_task_id")

    op.drop_table("promotions")
    with op.batch_alter_table("changes", schema=None) as batch_op:
        batch_op.drop_index("ix_changes_record_type_record_id")
        batch_op.drop_index("ix_changes_record_type_field_record_id")

    op.drop_table("changes")
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_accounts_owner_id"))

    op.drop_table("accounts")
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_users_team_id"))

    op.drop_table("users")
    op.drop_table("teams")
    with op.batch_alter_table("predictions", schema=None) as batch_op:
        batch_op.drop_index("ix_predictions_record_type_record_id_as_of")

    op.drop_table("predictions")
    op.drop_table("fields")
    op.drop_table("cursors")
    op.drop_table("coverage")
