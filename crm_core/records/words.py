"""The words that fields hold where only a few make sense."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a user may do."""

    REP = "rep"
    MANAGER = "manager"
    ANALYST = "analyst"
    ADMIN = "admin"


class LeadStatus(StrEnum):
    """Where a lead stands."""

    OPEN = "open"
    CONVERTED = "converted"
    DISQUALIFIED = "disqualified"


class DealStatus(StrEnum):
    """Where a deal stands; its stage says more while it is open."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class ActivityKind(StrEnum):
    """What was done."""

    CALL = "call"
    MAIL = "mail"
    MEETING = "meeting"
    VISIT = "visit"
    NOTE = "note"
    TASK = "task"
    WEB = "web"
    FEEDBACK = "feedback"


class Direction(StrEnum):
    """Who started it: the customer (inbound) or us (outbound)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class ContractStatus(StrEnum):
    """Where a contract stands."""

    ACTIVE = "active"
    RENEWED = "renewed"
    ENDED = "ended"
    CANCELLED = "cancelled"


class TicketStatus(StrEnum):
    """Where a ticket stands: pending waits for the customer, solved for an objection, closed for nothing."""

    OPEN = "open"
    PENDING = "pending"
    SOLVED = "solved"
    CLOSED = "closed"


class TicketPriority(StrEnum):
    """How much hurry there is."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class Feedback(StrEnum):
    """What a customer says of us unasked: the outcome of an activity of that kind."""

    COMPLAINT = "complaint"
    PRAISE = "praise"
    IDEA = "idea"


class ArticleState(StrEnum):
    """Whether an article of the knowledge base is shown to those who look for an answer."""

    DRAFT = "draft"
    PUBLISHED = "published"
    RETIRED = "retired"


class Consent(StrEnum):
    """Whether a person agreed to be written to."""

    GRANTED = "granted"
    WITHDRAWN = "withdrawn"


class QuoteStatus(StrEnum):
    """Where a quote stands."""

    DRAFT = "draft"
    SENT = "sent"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class ApprovalState(StrEnum):
    """Where a request stands that somebody approve something."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    LAPSED = "lapsed"
