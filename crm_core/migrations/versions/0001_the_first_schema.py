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
        sa.Column(
            "position", sa.BigInteger(), nullable=False, comment="sequence of the last transaction dealt with"
        ),
        sa.Column(
            "batch_until",
            sa.BigInteger(),
            nullable=True,
            comment="sequence of the begun batch's last transaction",
        ),
        sa.Column(
            "batch_as_of", crm_core.columns.Instant(), nullable=True, comment="the instant it asks from"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "custom_record_types",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "name", sa.String(length=40), nullable=False, comment="as in a URL: project, shop, machine"
        ),
        sa.Column("label_en", sa.String(length=200), nullable=False),
        sa.Column("label_zh", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_custom_record_types")),
        sa.UniqueConstraint("name", name=op.f("uq_custom_record_types_name")),
    )
    op.create_table(
        "field_rights",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("field", sa.String(length=120), nullable=False),
        sa.Column("read", sa.Boolean(), nullable=False),
        sa.Column("write", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_field_rights")),
        sa.UniqueConstraint(
            "role", "record_type", "field", name=op.f("uq_field_rights_role_record_type_field")
        ),
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
        "login_failures",
        sa.Column("key", sa.String(length=64), nullable=False, comment="SHA-256 of the address"),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", crm_core.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failures")),
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
        "products",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("code", sa.String(length=120), nullable=True),
        sa.Column("family", sa.String(length=120), nullable=True),
        sa.Column("price", crm_core.columns.Money(), nullable=True, comment="list price of one"),
        sa.Column("cost", crm_core.columns.Money(), nullable=True, comment="what one costs us"),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
        sa.UniqueConstraint("external_id", name=op.f("uq_products_external_id")),
    )
    with op.batch_alter_table("products", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_products_code"), ["code"], unique=False)

    op.create_table(
        "role_rights",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("read", sa.String(length=10), nullable=False),
        sa.Column("write", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_rights")),
        sa.UniqueConstraint("role", "record_type", name=op.f("uq_role_rights_role_record_type")),
    )
    op.create_table(
        "tags",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("word", sa.String(length=80), nullable=False),
        sa.Column(
            "subject_type", sa.String(length=40), nullable=False, comment="record type of what it is about"
        ),
        sa.Column("subject_id", sa.BigInteger(), nullable=False),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sa.UniqueConstraint("external_id", name=op.f("uq_tags_external_id")),
    )
    with op.batch_alter_table("tags", schema=None) as batch_op:
        batch_op.create_index("ix_tags_subject_type_subject_id", ["subject_type", "subject_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_tags_word"), ["word"], unique=False)

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
        sa.Column("parent_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("scoring_opt_out", sa.Boolean(), nullable=False, comment="asks not to be scored"),
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
            "merged_into_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the record that stands for both",
        ),
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
        sa.ForeignKeyConstraint(["parent_id"], ["accounts.id"], name=op.f("fk_accounts_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("external_id", name=op.f("uq_accounts_external_id")),
    )
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_accounts_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_accounts_parent_id"), ["parent_id"], unique=False)

    op.create_table(
        "attachments",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("uri", sa.String(length=2000), nullable=False),
        sa.Column("media_type", sa.String(length=120), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True, comment="in bytes"),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "subject_type", sa.String(length=40), nullable=False, comment="record type of what it is about"
        ),
        sa.Column("subject_id", sa.BigInteger(), nullable=False),
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
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_attachments_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.UniqueConstraint("external_id", name=op.f("uq_attachments_external_id")),
    )
    with op.batch_alter_table("attachments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_attachments_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index(
            "ix_attachments_subject_type_subject_id", ["subject_type", "subject_id"], unique=False
        )

    op.create_table(
        "campaigns",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("channel", sa.String(length=80), nullable=True),
        sa.Column("starts_on", crm_core.columns.Day(), nullable=True),
        sa.Column("ends_on", crm_core.columns.Day(), nullable=True),
        sa.Column("budget", crm_core.columns.Money(), nullable=True),
        sa.Column("cost", crm_core.columns.Money(), nullable=True, comment="what it has cost so far"),
        sa.Column("currency", sa.String(length=3), nullable=True),
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
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_campaigns_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("external_id", name=op.f("uq_campaigns_external_id")),
    )
    with op.batch_alter_table("campaigns", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_campaigns_owner_id"), ["owner_id"], unique=False)

    op.create_table(
        "changes",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="the transaction that wrote it"),
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
        batch_op.create_index("ix_changes_sequence_id", ["sequence", "id"], unique=False)

    op.create_table(
        "comments",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("mentions", crm_core.columns.Json(), nullable=True, comment="ids of the users it calls on"),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "subject_type", sa.String(length=40), nullable=False, comment="record type of what it is about"
        ),
        sa.Column("subject_id", sa.BigInteger(), nullable=False),
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
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_comments_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comments")),
        sa.UniqueConstraint("external_id", name=op.f("uq_comments_external_id")),
    )
    with op.batch_alter_table("comments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_comments_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index(
            "ix_comments_subject_type_subject_id", ["subject_type", "subject_id"], unique=False
        )

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
        sa.Column("birthday", crm_core.columns.Day(), nullable=True),
        sa.Column("owner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "consent", sa.String(length=10), nullable=True, comment="to be written to; NULL: never asked"
        ),
        sa.Column("consent_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("scoring_opt_out", sa.Boolean(), nullable=False, comment="asks not to be scored"),
        sa.Column(
            "erased_at", crm_core.columns.Instant(), nullable=True, comment="when the person was erased"
        ),
        sa.Column(
            "merged_into_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the record that stands for both",
        ),
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
        sa.Column("campaign_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("competitors", crm_core.columns.Json(), nullable=True, comment="names, as far as known"),
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
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_deals_campaign_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_deals_contact_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_deals_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deals")),
        sa.UniqueConstraint("external_id", name=op.f("uq_deals_external_id")),
    )
    with op.batch_alter_table("deals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deals_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deals_campaign_id"), ["campaign_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deals_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deals_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index("ix_deals_status_probability", ["status", "probability"], unique=False)

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
        "custom_records",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("type_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
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
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_custom_records_account_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_custom_records_deal_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_custom_records_owner_id")),
        sa.ForeignKeyConstraint(
            ["type_id"], ["custom_record_types.id"], name=op.f("fk_custom_records_type_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_custom_records")),
        sa.UniqueConstraint("external_id", name=op.f("uq_custom_records_external_id")),
    )
    with op.batch_alter_table("custom_records", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_custom_records_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_custom_records_deal_id"), ["deal_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_custom_records_owner_id"), ["owner_id"], unique=False)
        batch_op.create_index("ix_custom_records_type_id", ["type_id"], unique=False)

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
        sa.Column("campaign", sa.String(length=200), nullable=True, comment="as the source named it"),
        sa.Column("campaign_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("territory", sa.String(length=120), nullable=True),
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
            "consent", sa.String(length=10), nullable=True, comment="to be written to; NULL: never asked"
        ),
        sa.Column("consent_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("scoring_opt_out", sa.Boolean(), nullable=False, comment="asks not to be scored"),
        sa.Column(
            "erased_at", crm_core.columns.Instant(), nullable=True, comment="when the person was erased"
        ),
        sa.Column(
            "merged_into_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the record that stands for both",
        ),
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
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_leads_campaign_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_leads_contact_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_leads_deal_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_leads_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leads")),
        sa.UniqueConstraint("external_id", name=op.f("uq_leads_external_id")),
    )
    with op.batch_alter_table("leads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leads_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leads_campaign_id"), ["campaign_id"], unique=False)
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
        "quotes",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("deal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("number", sa.String(length=120), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("amount", crm_core.columns.Money(), nullable=True, comment="after discounts"),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("discount", sa.Double(), nullable=True, comment="share of the list price, in [0, 1]"),
        sa.Column("valid_until", crm_core.columns.Day(), nullable=True),
        sa.Column("sent_at", crm_core.columns.Instant(), nullable=True),
        sa.Column("decided_at", crm_core.columns.Instant(), nullable=True),
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
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_quotes_account_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_quotes_deal_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_quotes_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotes")),
        sa.UniqueConstraint("external_id", name=op.f("uq_quotes_external_id")),
    )
    with op.batch_alter_table("quotes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_quotes_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_quotes_deal_id"), ["deal_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_quotes_owner_id"), ["owner_id"], unique=False)

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
        sa.Column(
            "subject_type", sa.String(length=40), nullable=True, comment="of any other record it is about"
        ),
        sa.Column("subject_id", sa.BigInteger(), nullable=True),
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
        batch_op.create_index(
            "ix_activities_subject_type_subject_id", ["subject_type", "subject_id"], unique=False
        )

    op.create_table(
        "campaign_members",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("campaign_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lead_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("response", sa.String(length=80), nullable=True),
        sa.Column("responded_at", crm_core.columns.Instant(), nullable=True),
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
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_members_campaign_id")
        ),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_campaign_members_contact_id")),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name=op.f("fk_campaign_members_lead_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_members")),
        sa.UniqueConstraint("external_id", name=op.f("uq_campaign_members_external_id")),
    )
    with op.batch_alter_table("campaign_members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_campaign_members_campaign_id"), ["campaign_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_campaign_members_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_campaign_members_lead_id"), ["lead_id"], unique=False)

    op.create_table(
        "lines",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("quote_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("order_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("product_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "text", sa.String(length=300), nullable=True, comment="where it differs from the product's name"
        ),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("unit_price", crm_core.columns.Money(), nullable=True),
        sa.Column("discount", sa.Double(), nullable=True, comment="share of the unit price, in [0, 1]"),
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
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_lines_order_id")),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=op.f("fk_lines_product_id")),
        sa.ForeignKeyConstraint(["quote_id"], ["quotes.id"], name=op.f("fk_lines_quote_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lines")),
        sa.UniqueConstraint("external_id", name=op.f("uq_lines_external_id")),
    )
    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lines_order_id"), ["order_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_lines_product_id"), ["product_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_lines_quote_id"), ["quote_id"], unique=False)

    op.create_table(
        "payments",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("contract_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("order_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("amount", crm_core.columns.Money(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("due_on", crm_core.columns.Day(), nullable=True),
        sa.Column("paid_at", crm_core.columns.Instant(), nullable=True, comment="NULL while it is open"),
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
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_payments_account_id")),
        sa.ForeignKeyConstraint(["contract_id"], ["contracts.id"], name=op.f("fk_payments_contract_id")),
        sa.ForeignKeyConstraint(["deal_id"], ["deals.id"], name=op.f("fk_payments_deal_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_payments_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("external_id", name=op.f("uq_payments_external_id")),
    )
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_payments_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_payments_contract_id"), ["contract_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_payments_deal_id"), ["deal_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_payments_order_id"), ["order_id"], unique=False)


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_payments_order_id"))
        batch_op.drop_index(batch_op.f("ix_payments_deal_id"))
        batch_op.drop_index(batch_op.f("ix_payments_contract_id"))
        batch_op.drop_index(batch_op.f("ix_payments_account_id"))

    op.drop_table("payments")
    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lines_quote_id"))
        batch_op.drop_index(batch_op.f("ix_lines_product_id"))
        batch_op.drop_index(batch_op.f("ix_lines_order_id"))

    op.drop_table("lines")
    with op.batch_alter_table("campaign_members", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_campaign_members_lead_id"))
        batch_op.drop_index(batch_op.f("ix_campaign_members_contact_id"))
        batch_op.drop_index(batch_op.f("ix_campaign_members_campaign_id"))

    op.drop_table("campaign_members")
    with op.batch_alter_table("activities", schema=None) as batch_op:
        batch_op.drop_index("ix_activities_subject_type_subject_id")
        batch_op.drop_index(batch_op.f("ix_activities_owner_id"))
        batch_op.drop_index(batch_op.f("ix_activities_lead_id"))
        batch_op.drop_index(batch_op.f("ix_activities_deal_id"))
        batch_op.drop_index(batch_op.f("ix_activities_contact_id"))
        batch_op.drop_index(batch_op.f("ix_activities_account_id"))

    op.drop_table("activities")
    with op.batch_alter_table("quotes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_quotes_owner_id"))
        batch_op.drop_index(batch_op.f("ix_quotes_deal_id"))
        batch_op.drop_index(batch_op.f("ix_quotes_account_id"))

    op.drop_table("quotes")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_orders_deal_id"))
        batch_op.drop_index(batch_op.f("ix_orders_account_id"))

    op.drop_table("orders")
    with op.batch_alter_table("leads", schema=None) as batch_op:
        batch_op.drop_index("ix_leads_status_probability")
        batch_op.drop_index(batch_op.f("ix_leads_owner_id"))
        batch_op.drop_index(batch_op.f("ix_leads_deal_id"))
        batch_op.drop_index(batch_op.f("ix_leads_contact_id"))
        batch_op.drop_index(batch_op.f("ix_leads_campaign_id"))
        batch_op.drop_index(batch_op.f("ix_leads_account_id"))

    op.drop_table("leads")
    with op.batch_alter_table("custom_records", schema=None) as batch_op:
        batch_op.drop_index("ix_custom_records_type_id")
        batch_op.drop_index(batch_op.f("ix_custom_records_owner_id"))
        batch_op.drop_index(batch_op.f("ix_custom_records_deal_id"))
        batch_op.drop_index(batch_op.f("ix_custom_records_account_id"))

    op.drop_table("custom_records")
    with op.batch_alter_table("contracts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_contracts_deal_id"))
        batch_op.drop_index(batch_op.f("ix_contracts_account_id"))

    op.drop_table("contracts")
    with op.batch_alter_table("tickets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tickets_owner_id"))
        batch_op.drop_index(batch_op.f("ix_tickets_contact_id"))
        batch_op.drop_index(batch_op.f("ix_tickets_account_id"))

    op.drop_table("tickets")
    with op.batch_alter_table("deals", schema=None) as batch_op:
        batch_op.drop_index("ix_deals_status_probability")
        batch_op.drop_index(batch_op.f("ix_deals_owner_id"))
        batch_op.drop_index(batch_op.f("ix_deals_contact_id"))
        batch_op.drop_index(batch_op.f("ix_deals_campaign_id"))
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
    with op.batch_alter_table("comments", schema=None) as batch_op:
        batch_op.drop_index("ix_comments_subject_type_subject_id")
        batch_op.drop_index(batch_op.f("ix_comments_owner_id"))

    op.drop_table("comments")
    with op.batch_alter_table("changes", schema=None) as batch_op:
        batch_op.drop_index("ix_changes_sequence_id")
        batch_op.drop_index("ix_changes_record_type_record_id")
        batch_op.drop_index("ix_changes_record_type_field_record_id")

    op.drop_table("changes")
    with op.batch_alter_table("campaigns", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_campaigns_owner_id"))

    op.drop_table("campaigns")
    with op.batch_alter_table("attachments", schema=None) as batch_op:
        batch_op.drop_index("ix_attachments_subject_type_subject_id")
        batch_op.drop_index(batch_op.f("ix_attachments_owner_id"))

    op.drop_table("attachments")
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_accounts_parent_id"))
        batch_op.drop_index(batch_op.f("ix_accounts_owner_id"))

    op.drop_table("accounts")
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_users_team_id"))

    op.drop_table("users")
    op.drop_table("teams")
    with op.batch_alter_table("tags", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tags_word"))
        batch_op.drop_index("ix_tags_subject_type_subject_id")

    op.drop_table("tags")
    op.drop_table("role_rights")
    with op.batch_alter_table("products", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_products_code"))

    op.drop_table("products")
    with op.batch_alter_table("predictions", schema=None) as batch_op:
        batch_op.drop_index("ix_predictions_record_type_record_id_as_of")

    op.drop_table("predictions")
    op.drop_table("login_failures")
    op.drop_table("fields")
    op.drop_table("field_rights")
    op.drop_table("custom_record_types")
    op.drop_table("cursors")
    op.drop_table("coverage")
