"""The words that records hold, in the language of the page."""

from __future__ import annotations

from flask_babel import lazy_gettext as _

from crm_core.pipelines import PIPELINES
from serving.web.language import choose_language

WORDS: dict[str, dict[str, object]] = {
    "lead_status": {
        "open": _("Open"),
        "converted": _("Converted"),
        "disqualified": _("Disqualified"),
    },
    "deal_status": {"open": _("Open"), "won": _("Won"), "lost": _("Lost")},
    "alert_kind": {
        "churn_level": _("Danger of leaving above the level"),
        "churn_jump": _("Danger of leaving has jumped up"),
        "contract_end": _("Contract ends soon, renewal in doubt"),
        "deal_fall": _("Chance to be won has fallen"),
    },
    "alert_state": {
        "open": _("Open"),
        "acknowledged": _("In hand"),
        "snoozed": _("Put aside"),
        "closed": _("Over"),
    },
    "list_action": {
        "assign": _("Give to somebody"),
        "tag": _("Put a tag on"),
        "untag": _("Take a tag off"),
        "delete": _("Delete"),
        "export": _("Export"),
    },
    "shared": {"own": _("nobody else"), "team": _("my team"), "all": _("everybody")},
    "op": {
        "eq": _("is"),
        "ne": _("is not"),
        "in": _("is one of"),
        "not_in": _("is none of"),
        "lt": _("is below"),
        "le": _("is at most"),
        "gt": _("is above"),
        "ge": _("is at least"),
        "between": _("is between"),
        "contains": _("contains"),
        "empty": _("is empty"),
        "not_empty": _("is filled"),
    },
    "import_state": {
        "uploaded": _("waiting for you"),
        "checking": _("being tried"),
        "checked": _("tried"),
        "importing": _("being imported"),
        "done": _("imported"),
        "failed": _("refused"),
    },
    "role": {
        "rep": _("Sales rep"),
        "manager": _("Manager"),
        "analyst": _("Data scientist"),
        "admin": _("Administrator"),
    },
    "scope": {
        "read": _("Reading"),
        "write": _("Changing records"),
        "score": _("Scoring now"),
        "models": _("Models"),
        "people": _("Personal data: find, export, erase"),
        "admin": _("Keys and the operation log"),
    },
    "kind": {
        "call": _("Call"),
        "mail": _("Mail"),
        "meeting": _("Meeting"),
        "visit": _("Visit"),
        "note": _("Note"),
        "task": _("Task"),
        "web": _("Web visit"),
    },
    "record_type": {
        "account": _("Customer"),
        "activity": _("Activity"),
        "attachment": _("File"),
        "campaign": _("Campaign"),
        "campaign_member": _("Campaign member"),
        "comment": _("Comment"),
        "contact": _("Contact"),
        "contract": _("Contract"),
        "custom_record": _("Other record"),
        "deal": _("Deal"),
        "lead": _("Lead"),
        "line": _("Line"),
        "order": _("Order"),
        "payment": _("Payment"),
        "product": _("Product"),
        "quote": _("Quote"),
        "tag": _("Tag"),
        "team": _("Team"),
        "ticket": _("Ticket"),
        "user": _("Colleague"),
    },
    "record_types": {"account": _("Customers"), "contact": _("Contacts"), "lead": _("Leads")},
    "direction": {"inbound": _("from the customer"), "outbound": _("by us")},
    "outcome": {"connected": _("Connected"), "held": _("Held"), "no answer": _("No answer")},
    "source": {
        "ad": _("Advertisement"),
        "cold call": _("Cold call"),
        "referral": _("Referral"),
        "trade show": _("Trade show"),
        "web form": _("Web form"),
    },
    "task": {
        "lead_scoring": _("Lead scoring"),
        "win_probability": _("Win probability"),
        "churn": _("Customer churn"),
    },
    "baseline": {
        "model": _("This model"),
        "truth": _("True probabilities (simulated)"),
        "base_rate": _("Base rate"),
        "source_rate": _("Rate of the source"),
        "stage_rate": _("Rate of the stage"),
        "recency": _("Recency alone"),
        "contract_end": _("Contract end alone"),
        "rep_probability": _("Rep's own probability"),
        "naive_bayes": _("Naive Bayes"),
    },
    "finding": {
        "inputs": _("Records asked about"),
        "outcomes": _("How often it happens"),
        "calibration": _("What came, per what was said"),
        "performance": _("Stored predictions, as they were made (AUC)"),
    },
    "watch_state": {
        "unknown": _("not known yet"),
        "ok": _("as it was"),
        "watch": _("worth a look"),
        "act": _("act on it"),
    },
    "estimator": {
        "scorecard": _("scorecard (opinion)"),
        "base_rate": _("base rate"),
        "logistic": _("logistic regression"),
        "additive_trees": _("additive trees"),
        "full_trees": _("full trees"),
    },
    "segment": {
        "period": _("Asked in"),
        "source": _("Source"),
        "region": _("Region"),
        "size": _("Employees"),
        "industry": _("Industry"),
        "stage": _("Stage"),
        "amount": _("Amount"),
        "team": _("Team"),
        "account": _("Account"),
    },
    "level": {
        "(other)": _("others"),
        "(not given)": _("not given"),
        "new": _("new to the model"),
        "known": _("the model learned from it"),
    },
    "feature_group": {
        "account_employees": _("Employees of the customer"),
        "account_industry": _("Industry of the customer"),
        "account_orders": _("Orders of the customer"),
        "account_region": _("Region of the customer"),
        "activities": _("Activities"),
        "age": _("Age"),
        "amount": _("Amount"),
        "calls": _("Calls"),
        "campaign": _("Campaign"),
        "competitors": _("Competitors"),
        "contacts": _("Contacts in both directions"),
        "contracts": _("Contracts"),
        "employees": _("Employees"),
        "expected_close": _("Expected close"),
        "inbound_contacts": _("Contacts from the customer"),
        "industry": _("Industry"),
        "mails": _("Mails"),
        "meetings": _("Meetings"),
        "missing_fields": _("Fields left empty"),
        "open_account_tickets": _("Open tickets of the customer"),
        "orders": _("Orders"),
        "outbound_contacts": _("Contacts by us"),
        "owner": _("Owner"),
        "owner_team": _("Team"),
        "payments": _("Payments"),
        "pipeline": _("Pipeline"),
        "region": _("Region"),
        "season": _("Time of the year"),
        "source": _("Source"),
        "stage": _("Stage"),
        "tickets": _("Tickets"),
        "web_visits": _("Web visits"),
    },
    "field": {
        "status": _("Status"),
        "stage": _("Stage"),
        "owner_id": _("Owner"),
        "amount": _("Amount"),
        "expected_close_on": _("Expected close"),
        "rep_probability": _("Rep's own probability"),
        "converted_at": _("Converted on"),
        "closed_at": _("Closed on"),
        "lost_reason": _("Reason for the loss"),
        "disqualified_reason": _("Reason for disqualifying"),
        "employees": _("Employees"),
        "industry": _("Industry"),
        "region": _("Region"),
        "name": _("Name"),
        "company": _("Company"),
        "email": _("Email"),
        "phone": _("Phone"),
        "title": _("Job title"),
        "source": _("Source"),
        "campaign": _("Campaign"),
        "website": _("Website"),
        "occurred_at": _("Created"),
        "account_id": _("Customer"),
        "currency": _("Currency"),
        "scoring_opt_out": _("Opted out of scoring"),
        "subject": _("Subject"),
        "body": _("Text"),
        "number": _("Number"),
        "text": _("Text"),
        "word": _("Tag"),
        "code": _("Code"),
        "family": _("Product family"),
        "competitors": _("Competitors"),
    },
}
"""What the program itself calls things; other words are data and shown as they are."""


def word(kind: str, value: object) -> str:
    """Return a word of the program in the page's language; a word of the data in readable form."""
    if value is None:
        return "–"  # noqa: RUF001  a dash, as one sets it
    if kind == "stage":
        return _stage(str(value))
    known = WORDS.get(kind, {}).get(str(value))
    return str(known) if known is not None else str(value).replace("_", " ").capitalize()


def _stage(key: str) -> str:
    for stages in PIPELINES.values():
        for stage in stages:
            if stage.key == key:
                return stage.name_zh if choose_language() == "zh" else stage.name_en
    return key
