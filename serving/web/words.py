"""The words that records hold, in the language of the page."""

from __future__ import annotations

from collections.abc import Iterator

from flask import has_request_context
from flask_babel import lazy_gettext as _

from crm_core.fields import CUSTOM, list_all_fields
from crm_core.pipelines import PIPELINES, Stage
from crm_core.recall import recalled
from crm_core.stage_settings import stages_of
from serving.service import page_session
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
    "told": {
        "mention": _("mentioned you"),
        "assigned": _("gave you a record"),
        "alert": _("There is a new alert"),
        "job": _("Work of yours is done"),
        "due": _("Something is due"),
        "import_done": _("Your import is done"),
        "import_checked": _("Your file has been tried: nothing is written yet"),
        "import_failed": _("Your file could not be imported"),
        "work_done": _("What you had done with many rows is done"),
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
    "reach": {"none": _("nothing"), "own": _("their own"), "team": _("their team's"), "all": _("all")},
    "field_right": {
        "hidden": _("is hidden"),
        "shown": _("is seen, not changed"),
        "changed": _("is seen and changed"),
    },
    "deed": {
        "logged_in": _("Logged in"),
        "logged_in_by_provider": _("Logged in by the identity provider"),
        "provider_refused": _("Refused by the identity provider"),
        "login_failed": _("Failed to log in"),
        "login_locked": _("Locked out"),
        "logged_out": _("Logged out"),
        "logged_out_everywhere": _("Logged out everywhere"),
        "password_set": _("Password set"),
        "token_made": _("API key made"),
        "token_revoked": _("API key revoked"),
        "read": _("Read"),
        "listed": _("Listed"),
        "person_found": _("Looked for all about a person"),
        "person_exported": _("Exported all about a person"),
        "person_erased": _("Erased a person"),
        "records_exported": _("Exported records"),
        "right_set": _("Right set"),
        "setting_set": _("Setting set"),
        "handed_over": _("Handed over"),
        "model_promoted": _("Model put in charge"),
        "model_rolled_back": _("Model rolled back"),
    },
    "via": {"page": _("Page"), "api": _("API"), "command": _("Command line")},
    "delivery_state": {
        "waiting": _("waiting"),
        "running": _("being sent"),
        "done": _("taken"),
        "dead": _("given up"),
    },
    "field_kind": {
        "text": _("Text"),
        "number": _("Number"),
        "flag": _("Yes or no"),
        "day": _("Day"),
        "instant": _("Day and time"),
        "choice": _("Choice"),
        "money": _("Money"),
        "reference": _("Reference"),
    },
    "known": {
        "creation": _("when the record is created"),
        "history": _("as its changes say"),
        "outcome": _("only once it has ended: never learned from"),
        "unknown": _("nobody knows: never learned from"),
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
    "record_types": {
        "account": _("Customers"),
        "contact": _("Contacts"),
        "lead": _("Leads"),
        "deal": _("Deals"),
        "quote": _("Quotes"),
        "contract": _("Contracts"),
        "order": _("Orders"),
        "payment": _("Payments"),
        "ticket": _("Tickets"),
        "campaign": _("Campaigns"),
        "product": _("Products"),
    },
    "related": {
        "account": _("Customers"),
        "contact": _("Contacts"),
        "lead": _("Leads"),
        "deal": _("Deals"),
        "quote": _("Quotes"),
        "contract": _("Contracts"),
        "order": _("Orders"),
        "line": _("Lines"),
        "payment": _("Payments"),
        "ticket": _("Tickets"),
    },
    "happened": {
        "all": _("Everything"),
        "activities": _("Activities"),
        "comments": _("Comments"),
        "changes": _("Changes"),
        "scores": _("Scores"),
        "sales": _("Sales"),
        "service": _("Tickets"),
        "files": _("Files"),
    },
    "ended": {
        "won": _("Won"),
        "lost": _("Lost"),
        "converted": _("Converted"),
        "disqualified": _("Disqualified"),
        "renewed": _("Renewed"),
        "ended": _("Not renewed"),
        "cancelled": _("Cancelled"),
    },
    "compared": {
        "account.industry": _("Industry of the customer"),
        "account.region": _("Region of the customer"),
        "account.employees": _("Employees of the customer"),
    },
    "contract_status": {
        "active": _("Running"),
        "renewed": _("Renewed"),
        "ended": _("Not renewed"),
        "cancelled": _("Cancelled"),
    },
    "ticket_status": {"open": _("Open"), "closed": _("Closed")},
    "quote_status": {
        "draft": _("Draft"),
        "sent": _("Sent"),
        "accepted": _("Accepted"),
        "rejected": _("Rejected"),
        "expired": _("Expired"),
    },
    "consent": {"granted": _("Granted"), "withdrawn": _("Withdrawn")},
    "direction": {"inbound": _("from the customer"), "outbound": _("by us")},
    "outcome": {
        "connected": _("Connected"),
        "held": _("Held"),
        "no answer": _("No answer"),
        "done": _("Done"),
    },
    "source": {
        "ad": _("Advertisement"),
        "cold call": _("Cold call"),
        "referral": _("Referral"),
        "trade show": _("Trade show"),
        "web form": _("Web form"),
    },
    "why_wrong": {
        "too_high": _("It is too high"),
        "too_low": _("It is too low"),
        "wrong_reason": _("A reason is wrong"),
        "old_data": _("The data is out of date"),
        "missing_data": _("Something that matters is not known to it"),
        "other": _("Something else"),
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
    "verdict": {
        "none": _("No model serves"),
        "trouble": _("The newest version cannot be loaded"),
        "unasked": _("Not yet checked whether it is still right"),
        "unknown": _("Too early to say whether it is still right"),
        "ok": _("Still right"),
        "watch": _("Something has moved: worth a look"),
        "act": _("No longer right: act on it"),
    },
    "version_state": {
        "champion": _("in charge"),
        "challenger": _("challenger"),
        "served": _("was in charge"),
        "named": _("was challenger"),
        "trained": _("trained"),
    },
    "work": {
        "train": _("Training"),
        "watch": _("Asking whether it is still right"),
        "replay": _("Replaying history"),
        "compare": _("Comparing two versions"),
        "promote": _("Promoting"),
        "roll_back": _("Rolling back"),
    },
    "work_step": {
        "train": _("beginning"),
        "watch": _("beginning"),
        "replay": _("beginning"),
        "compare": _("beginning"),
        "promote": _("asking the gate"),
        "roll_back": _("beginning"),
        "asking": _("reading the questions"),
        "looking for leaks": _("looking for leaks"),
        "choosing and fitting": _("choosing and fitting a model of the past"),
        "judging": _("judging it on what came later"),
        "choosing and fitting on everything": _("choosing and fitting on everything"),
        "registering": _("registering"),
        "calibrating": _("calibrating"),
        "replaying": _("replaying"),
        "comparing with what has come": _("comparing with what has come"),
        "reading past scores": _("reading past scores"),
        "reading both models": _("reading both models"),
        "asking both": _("asking both"),
        "measuring": _("measuring"),
    },
    "job_state": {
        "waiting": _("waiting"),
        "running": _("running"),
        "done": _("done"),
        "dead": _("not done"),
    },
    "purpose": {
        "lead_scoring": _(
            "How likely an open lead is to become a customer, so that people call first where it pays."
        ),
        "win_probability": _(
            "How likely an open deal is to be won, beside the rep's own word: for lists and the forecast."
        ),
        "churn": _("How likely a customer is to leave, so that somebody speaks with them in time."),
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
        "deals": _("Deals"),
        "has_email": _("Has an email address"),
        "has_phone": _("Has a phone number"),
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
        "campaign_id": _("Campaign"),
        "contact_id": _("Contact"),
        "deal_id": _("Deal"),
        "lead_id": _("Lead"),
        "quote_id": _("Quote"),
        "order_id": _("Order"),
        "contract_id": _("Contract"),
        "product_id": _("Product"),
        "parent_id": _("Belongs to"),
        "renewed_by_id": _("Renewed by"),
        "territory": _("Territory"),
        "consent": _("Consent to be written to"),
        "consent_at": _("Consent asked on"),
        "birthday": _("Birthday"),
        "pipeline": _("Pipeline"),
        "value": _("Value"),
        "starts_on": _("Starts on"),
        "ends_on": _("Ends on"),
        "ended_at": _("Ended on"),
        "valid_until": _("Valid until"),
        "sent_at": _("Sent on"),
        "decided_at": _("Decided on"),
        "revision": _("Revision"),
        "discount": _("Discount"),
        "due_on": _("Due on"),
        "due_at": _("Due"),
        "paid_at": _("Paid on"),
        "priority": _("Priority"),
        "satisfaction": _("Satisfaction (1 to 5)"),
        "channel": _("Channel"),
        "budget": _("Budget"),
        "cost": _("Cost"),
        "price": _("Price"),
        "active": _("Active"),
        "kind": _("Kind"),
        "direction": _("Who started it"),
        "outcome": _("Outcome"),
        "duration_seconds": _("Seconds"),
        "mentions": _("Mentions"),
        "quantity": _("Quantity"),
        "unit_price": _("Unit price"),
        "id": _("Id"),
        "external_id": _("External id"),
        "recorded_at": _("Recorded on"),
        "deleted_at": _("Deleted on"),
        "version": _("Version"),
        "custom": _("Own fields"),
        "role": _("Role"),
        "team_id": _("Team"),
        "password_hash": _("Password"),
        "language": _("Language"),
        "time_zone": _("Time zone"),
        "left_at": _("Left on"),
        "probability": _("Probability"),
        "previous_probability": _("Probability before"),
        "score": _("Score"),
        "grade": _("Grade"),
        "trend": _("Trend"),
        "reasons": _("Reasons"),
        "scored_at": _("Scored on"),
        "model_version": _("Model version"),
        "merged_into_id": _("Merged into"),
        "erased_at": _("Erased on"),
        "response": _("Response"),
        "responded_at": _("Responded on"),
        "subject_type": _("Type of what it is about"),
        "subject_id": _("What it is about"),
        "uri": _("Place"),
        "media_type": _("Media type"),
        "size": _("Size"),
        "sha256": _("Checksum"),
        "type_id": _("Record type"),
        "lead.name": _("Full name"),
        "contact.name": _("Full name"),
        "user.name": _("Full name"),
    },
    "pipeline": {"default": _("Default pipeline")},
}
"""What the program itself calls things; other words are data and shown as they are."""


_OWN_GROUP = "custom_"
"""What the groups of features of fields of the company's own begin with."""


def word(kind: str, value: object) -> str:
    """Return a word of the program in the page's language; a word of the data in readable form."""
    if value is None:
        return "–"  # noqa: RUF001  a dash, as one sets it
    if kind == "stage":
        return _stage(str(value))
    known = WORDS.get(kind, {}).get(str(value))
    if known is None and kind == "feature_group" and str(value).startswith(_OWN_GROUP):
        return _of_a_field(str(value))
    return str(known) if known is not None else str(value).replace("_", " ").capitalize()


def field_word(record_type: str, name: str) -> str:
    """Return what a field of a record type is called: people have other names than things."""
    if name.startswith(CUSTOM):
        return _of_a_field(name.replace(CUSTOM, _OWN_GROUP, 1))
    own = f"{record_type}.{name}"
    return word("field", own if own in WORDS["field"] else name)


def _of_a_field(group: str) -> str:
    """Return what a field of the company's own is called, of which a model was told."""
    name = group.removeprefix(_OWN_GROUP)
    if not has_request_context():
        return name
    session = page_session()

    def read() -> dict[str, tuple[str | None, str | None]]:
        return {field.name: (field.label_en, field.label_zh) for field in list_all_fields(session)}

    english, chinese = recalled(session, ("labels of all fields",), read).get(f"{CUSTOM}{name}", (None, None))
    return (chinese if choose_language() == "zh" else english) or english or name


def _stage(key: str) -> str:
    for stage in _stages():
        if stage.key == key:
            return stage.name_zh if choose_language() == "zh" else stage.name_en
    return key


def _stages() -> Iterator[Stage]:
    """Yield all stages, as they were set where there is a page to show them on."""
    for pipeline, stages in PIPELINES.items():
        yield from stages_of(page_session(), pipeline) if has_request_context() else stages
