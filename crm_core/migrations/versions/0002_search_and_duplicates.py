"""An index of the grams that records' texts are made of, and pairs of records that are not the same."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RECORDS = {
    "account": "accounts",
    "contact": "contacts",
    "lead": "leads",
    "deal": "deals",
    "user": "users",
    "team": "teams",
    "campaign": "campaigns",
    "product": "products",
    "quote": "quotes",
    "order": "orders",
    "contract": "contracts",
    "line": "lines",
    "ticket": "tickets",
    "custom_record": "custom_records",
    "tag": "tags",
    "attachment": "attachments",
    "comment": "comments",
    "activity": "activities",
    "campaign_member": "campaign_members",
    "payment": "payments",
}


def upgrade() -> None:
    """Apply; the records that there are wait to be indexed, and are found meanwhile."""
    op.create_table(
        "search_segments",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column(
            "ids",
            sa.LargeBinary(),
            nullable=True,
            comment="ascending, int64; NULL: all from first_id to last_id",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_segments")),
    )
    op.create_index(op.f("ix_search_segments_record_type"), "search_segments", ["record_type"])
    op.create_table(
        "search_postings",
        sa.Column("segment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gram", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "gram", name=op.f("pk_search_postings")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "search_fresh",
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("record_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("record_type", "record_id", name=op.f("pk_search_fresh")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "distinct_records",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("record_type", sa.String(length=40), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False, comment="the smaller of the two ids"),
        sa.Column("second_id", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("actor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_distinct_records_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_distinct_records")),
        sa.UniqueConstraint(
            "record_type",
            "first_id",
            "second_id",
            name=op.f("uq_distinct_records_record_type_first_id_second_id"),
        ),
    )
    for record_type, table in RECORDS.items():
        op.execute(f"INSERT INTO search_fresh SELECT '{record_type}', id FROM {table}")  # noqa: S608  ours


def downgrade() -> None:
    """Undo."""
    op.drop_table("distinct_records")
    op.drop_table("search_fresh")
    op.drop_table("search_postings")
    op.drop_index(op.f("ix_search_segments_record_type"), table_name="search_segments")
    op.drop_table("search_segments")
