"""Queues, targets and clocks of tickets, and the knowledge base."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import crm_core.columns

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_PRIORITIES = {
    "low": ("low", "minor"),
    "normal": ("normal", "medium", "middle"),
    "high": ("high", "major"),
    "urgent": ("urgent", "critical", "highest"),
}
"""The words that there are from now on, and what was likely written for them."""


def upgrade() -> None:
    """Apply; a priority that is none of the known words stays as it is until somebody chooses another."""
    _extend_tickets()
    for word, known in _PRIORITIES.items():
        names = ", ".join(f"'{name}'" for name in known)
        op.execute(f"UPDATE tickets SET priority = '{word}' WHERE lower(priority) IN ({names})")  # noqa: S608  ours
    _make_desk()
    _make_articles()


def _extend_tickets() -> None:
    instants = {
        "first_due_at": "when the first answer is due",
        "first_answered_at": "our first mail or call",
        "first_breached_at": "when the first answer was due, if it came too late",
        "solve_due_at": "when it is to be solved; later by all time that it waits for the customer",
        "solved_at": None,
        "solve_breached_at": "when it was to be solved, if it was not",
        "paused_at": "since when its clock stands",
    }
    with op.batch_alter_table("tickets") as batch:
        batch.add_column(
            sa.Column("description", sa.Text(), nullable=True, comment="what the customer asks for")
        )
        batch.add_column(
            sa.Column(
                "queue", sa.String(length=40), nullable=True, comment="key of the queue that it waits in"
            )
        )
        for name, comment in instants.items():
            batch.add_column(sa.Column(name, crm_core.columns.Instant(), nullable=True, comment=comment))
        batch.add_column(
            sa.Column(
                "satisfaction_comment", sa.Text(), nullable=True, comment="what the customer adds to it"
            )
        )
        batch.add_column(
            sa.Column("merged_into_id", _KEY, nullable=True, comment="the record that stands for both")
        )
    op.create_index("ix_tickets_queue_status", "tickets", ["queue", "status"])
    op.create_index("ix_tickets_status_solve_due_at", "tickets", ["status", "solve_due_at"])


def _make_desk() -> None:
    op.create_table(
        "ticket_queues",
        sa.Column("key", sa.String(length=40), nullable=False, comment="as tickets name it"),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("team_id", _KEY, nullable=True, comment="whose people serve it"),
        sa.Column(
            "members", crm_core.columns.Json(), nullable=False, comment="ids of further people who serve it"
        ),
        sa.Column(
            "round_robin",
            sa.Boolean(),
            nullable=False,
            comment="whether new tickets are given to people in turn",
        ),
        sa.Column("retired", sa.Boolean(), nullable=False, comment="not offered any more"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts changes"),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_ticket_queues_team_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_ticket_queues")),
    )
    op.create_table(
        "service_targets",
        sa.Column("queue", sa.String(length=40), nullable=False, comment="empty: of all queues"),
        sa.Column("priority", sa.String(length=20), nullable=False),
        sa.Column("first_minutes", sa.Integer(), nullable=False, comment="until the first answer"),
        sa.Column("solve_minutes", sa.Integer(), nullable=False, comment="until it is solved"),
        sa.PrimaryKeyConstraint("queue", "priority", name=op.f("pk_service_targets")),
    )
    op.create_table(
        "queue_turns",
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_queue_turns")),
    )
    op.create_table(
        "ticket_clocks",
        sa.Column("ticket_id", _KEY, nullable=False),
        sa.Column(
            "stood", sa.Integer(), nullable=False, comment="seconds of working time that it stood, so far"
        ),
        sa.Column("done", crm_core.columns.Json(), nullable=False, comment="steps that were done"),
        sa.Column(
            "next_at",
            crm_core.columns.Instant(),
            nullable=True,
            comment="when there is something to be done",
        ),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_ticket_clocks_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", name=op.f("pk_ticket_clocks")),
    )
    op.create_index("ix_ticket_clocks_next_at", "ticket_clocks", ["next_at"])


def _make_articles() -> None:
    op.create_table(
        "articles",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column(
            "external_id", sa.String(length=200), nullable=True, comment="key in the system it came from"
        ),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="in Markdown"),
        sa.Column("language", sa.String(length=8), nullable=False, comment="en or zh"),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("owner_id", _KEY, nullable=True),
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
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_articles_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_articles")),
        sa.UniqueConstraint("external_id", name=op.f("uq_articles_external_id")),
    )
    op.create_index("ix_articles_owner_id", "articles", ["owner_id"])
    op.create_table(
        "article_uses",
        sa.Column("article_id", _KEY, nullable=False),
        sa.Column("ticket_id", _KEY, nullable=False),
        sa.Column("user_id", _KEY, nullable=False, comment="who used it last"),
        sa.Column("used_at", crm_core.columns.Instant(), nullable=False),
        sa.Column("helpful", sa.Boolean(), nullable=True, comment="whether it helped; NULL: nobody said so"),
        sa.ForeignKeyConstraint(["article_id"], ["articles.id"], name=op.f("fk_article_uses_article_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_article_uses_ticket_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_article_uses_user_id")),
        sa.PrimaryKeyConstraint("article_id", "ticket_id", name=op.f("pk_article_uses")),
    )
    op.create_index("ix_article_uses_ticket_id", "article_uses", ["ticket_id"])


def downgrade() -> None:
    """Undo."""
    for table in ("article_uses", "articles", "ticket_clocks", "queue_turns", "service_targets"):
        op.drop_table(table)
    op.drop_table("ticket_queues")
    op.execute("DELETE FROM search_fresh WHERE record_type = 'article'")
    op.drop_index("ix_tickets_status_solve_due_at", table_name="tickets")
    op.drop_index("ix_tickets_queue_status", table_name="tickets")
    names = ("merged_into_id", "satisfaction_comment", "paused_at", "solve_breached_at", "solved_at")
    more = ("solve_due_at", "first_breached_at", "first_answered_at", "first_due_at", "queue", "description")
    with op.batch_alter_table("tickets") as batch:
        for name in (*names, *more):
            batch.drop_column(name)
