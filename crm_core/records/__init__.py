"""The CRM's records: people, companies, what is sold, and everything that happened with them.

Every record carries `occurred_at` (when it came to exist, or happened) and `recorded_at` (when we learned
of it). `Scored` columns are written by models only; every other column by people, programs and imports only.
"""

from __future__ import annotations

from crm_core.records.activities import Activity, Attachment, Comment, Subject, Tag
from crm_core.records.base import Base, Id, Owned, Record, Scored, likeliest_first
from crm_core.records.custom import LINKABLE, CustomRecord, CustomRecordType
from crm_core.records.customers import Account, Contact, Lead, Mergeable, Person
from crm_core.records.marketing import Campaign, CampaignMember
from crm_core.records.people import Team, User
from crm_core.records.selling import Contract, Deal, Line, Order, Payment, Product, Quote
from crm_core.records.service import Article, Ticket
from crm_core.records.words import (
    ActivityKind,
    ApprovalState,
    ArticleState,
    Consent,
    ContractStatus,
    DealStatus,
    Direction,
    Feedback,
    LeadStatus,
    QuoteStatus,
    Role,
    TicketPriority,
    TicketStatus,
)

RECORD_TYPES: dict[str, type[Record]] = {
    model.record_type: model
    for model in (
        Team,
        User,
        Campaign,
        Account,
        Contact,
        Product,
        Deal,
        Lead,
        CampaignMember,
        Quote,
        Order,
        Line,
        Contract,
        Payment,
        Ticket,
        Article,
        Activity,
        Comment,
        Attachment,
        Tag,
        CustomRecord,
    )
}
"""Every record type by its name; those that others point at come first."""

SCORE_COLUMNS = frozenset(name for name in Scored.__annotations__ if not name.startswith("_"))
"""Columns that only models write."""

OUTCOME_FIELDS: dict[str, frozenset[str]] = {
    "lead": frozenset(
        {"status", "converted_at", "disqualified_reason", "account_id", "contact_id", "deal_id"}
    ),
    "deal": frozenset({"status", "closed_at", "lost_reason"}),
    "contract": frozenset({"status", "ended_at", "renewed_by_id"}),
}
"""Fields written at or after an outcome: never inputs of a model."""

__all__ = [
    "LINKABLE",
    "OUTCOME_FIELDS",
    "RECORD_TYPES",
    "SCORE_COLUMNS",
    "Account",
    "Activity",
    "ActivityKind",
    "ApprovalState",
    "Article",
    "ArticleState",
    "Attachment",
    "Base",
    "Campaign",
    "CampaignMember",
    "Comment",
    "Consent",
    "Contact",
    "Contract",
    "ContractStatus",
    "CustomRecord",
    "CustomRecordType",
    "Deal",
    "DealStatus",
    "Direction",
    "Feedback",
    "Id",
    "Lead",
    "LeadStatus",
    "Line",
    "Mergeable",
    "Order",
    "Owned",
    "Payment",
    "Person",
    "Product",
    "Quote",
    "QuoteStatus",
    "Record",
    "Role",
    "Scored",
    "Subject",
    "Tag",
    "Team",
    "Ticket",
    "TicketPriority",
    "TicketStatus",
    "User",
    "likeliest_first",
]
