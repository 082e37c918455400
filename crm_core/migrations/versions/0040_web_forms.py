"""Web forms, the wordings of their consent, and what was sent with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "web_forms",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.String(length=32), nullable=False, comment="part of its address"),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False, comment="source of the leads it makes"),
        sa.Column("campaign_id", _KEY, nullable=True),
        sa.Column("owner_id", _KEY, nullable=True, comment="of new leads"),
        sa.Column(
            "fields",
            crm_core.columns.Json(),
            nullable=False,
            comment="what is asked, and if it must be",
        ),
        sa.Column(
            "texts",
            crm_core.columns.Json(),
            nullable=False,
            comment="title, consent and thanks, each by language",
        ),
        sa.Column(
            "wording",
            sa.Integer(),
            nullable=False,
            comment="number of the consent's newest wording; 0: none is asked",
        ),
        sa.Column(
            "origins",
            crm_core.columns.Json(),
            nullable=False,
            comment="sites that may embed it or send to it",
        ),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.Column("set_by_id", _KEY, nullable=False),
        sa.Column("set_at", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_web_forms_campaign_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_web_forms_owner_id")),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_web_forms_set_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_forms")),
        sa.UniqueConstraint("public_id", name=op.f("uq_web_forms_public_id")),
    )
    op.create_table(
        "form_wordings",
        sa.Column("form_id", _KEY, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", crm_core.columns.Json(), nullable=False, comment="by language"),
        sa.Column("since", crm_core.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["form_id"], ["web_forms.id"], name=op.f("fk_form_wordings_form_id")),
        sa.PrimaryKeyConstraint("form_id", "number", name=op.f("pk_form_wordings")),
    )
    op.create_table(
        "form_submissions",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("form_id", _KEY, nullable=False),
        sa.Column(
            "key", sa.String(length=64), nullable=False, comment="hash of the sheet that was filled in"
        ),
        sa.Column("digest", sa.String(length=64), nullable=True, comment="hash of what was filled in"),
        sa.Column(
            "address", sa.String(length=64), nullable=True, comment="hash of the mail address or number"
        ),
        sa.Column("at", crm_core.columns.Instant(), nullable=False),
        sa.Column("standing", sa.String(length=10), nullable=False),
        sa.Column(
            "why",
            crm_core.columns.Json(),
            nullable=False,
            comment="why it was held; empty if it was not",
        ),
        sa.Column(
            "given",
            crm_core.columns.Json(),
            nullable=True,
            comment="what was filled in, while it is held",
        ),
        sa.Column("agreed", sa.Boolean(), nullable=False, comment="whether they agreed to the consent"),
        sa.Column("wording", sa.Integer(), nullable=False, comment="to which wording; 0: none was asked"),
        sa.Column("language", sa.String(length=5), nullable=False),
        sa.Column(
            "utm",
            crm_core.columns.Json(),
            nullable=True,
            comment="marks of the address they came by",
        ),
        sa.Column("page", sa.Text(), nullable=True, comment="where the form stood"),
        sa.Column("lead_id", _KEY, nullable=True),
        sa.Column("contact_id", _KEY, nullable=True),
        sa.Column("activity_id", _KEY, nullable=True),
        sa.Column("decided_by_id", _KEY, nullable=True),
        sa.Column("decided_at", crm_core.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["form_id"], ["web_forms.id"], name=op.f("fk_form_submissions_form_id")),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name=op.f("fk_form_submissions_lead_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_form_submissions_contact_id")),
        sa.ForeignKeyConstraint(
            ["activity_id"], ["activities.id"], name=op.f("fk_form_submissions_activity_id")
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["users.id"], name=op.f("fk_form_submissions_decided_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_form_submissions")),
        sa.UniqueConstraint("form_id", "key", name=op.f("uq_form_submissions_form_id_key")),
    )
    for columns in (
        ["form_id", "at"],
        ["standing", "id"],
        ["address", "at"],
        ["lead_id"],
        ["contact_id"],
        ["activity_id"],
    ):
        op.create_index(f"ix_form_submissions_{'_'.join(columns)}", "form_submissions", columns)


def downgrade() -> None:
    """Undo."""
    op.drop_table("form_submissions")
    op.drop_table("form_wordings")
    op.drop_table("web_forms")
