"""Custom fields with choices, money and references; record types with links of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LINKS = {"lead_id": "leads", "contact_id": "contacts", "parent_id": "custom_records"}


def upgrade() -> None:
    """Apply; fields stay as they are, and record types keep the links that they could have until now."""
    with op.batch_alter_table("fields") as fields:
        fields.add_column(
            sa.Column(
                "choices",
                crm_core.columns.Json(),
                nullable=True,
                comment="of a choice: its values in order, each with labels",
            )
        )
        fields.add_column(
            sa.Column(
                "required",
                sa.Boolean(),
                nullable=False,
                server_default=sa.false(),
                comment="whether every new record needs a value",
            )
        )
        fields.add_column(
            sa.Column(
                "target",
                sa.String(length=40),
                nullable=True,
                comment="of a reference: the record type that it names",
            )
        )
        fields.add_column(
            sa.Column(
                "retired_at",
                crm_core.columns.Instant(),
                nullable=True,
                comment="from when on it takes no values",
            )
        )
    with op.batch_alter_table("custom_record_types") as types:
        types.add_column(
            sa.Column(
                "links",
                crm_core.columns.Json(),
                nullable=False,
                server_default='["account","deal"]',
                comment="record types that its records may be linked to",
            )
        )
        types.add_column(
            sa.Column(
                "retired_at",
                crm_core.columns.Instant(),
                nullable=True,
                comment="from when on no record of it is written",
            )
        )
    with op.batch_alter_table("custom_records") as records:
        records.drop_constraint(op.f("uq_custom_records_external_id"), type_="unique")
        records.create_unique_constraint(
            op.f("uq_custom_records_type_id_external_id"), ["type_id", "external_id"]
        )
        for column in _LINKS:
            comment = "another such record that it belongs to" if column == "parent_id" else None
            records.add_column(sa.Column(column, _KEY, nullable=True, comment=comment))
        for column, table in _LINKS.items():
            records.create_foreign_key(op.f(f"fk_custom_records_{column}"), table, [column], ["id"])
            records.create_index(op.f(f"ix_custom_records_{column}"), [column])


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("custom_records") as records:
        for column in reversed(_LINKS):
            records.drop_index(op.f(f"ix_custom_records_{column}"))
            records.drop_constraint(op.f(f"fk_custom_records_{column}"), type_="foreignkey")
            records.drop_column(column)
        records.drop_constraint(op.f("uq_custom_records_type_id_external_id"), type_="unique")
        records.create_unique_constraint(op.f("uq_custom_records_external_id"), ["external_id"])
    with op.batch_alter_table("custom_record_types") as types:
        types.drop_column("retired_at")
        types.drop_column("links")
    with op.batch_alter_table("fields") as fields:
        for column in ("retired_at", "target", "required", "choices"):
            fields.drop_column(column)
