"""Of an erased person no table holds anything, whatever it is for; a new table must say what it holds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, Table, Text, select, update
from sqlalchemy.orm import Session

import serving.app  # noqa: F401  all tables that there are
from crm_core.alerts import Alert, AlertAction
from crm_core.automation.kept import AutomationRule, AutomationVersion
from crm_core.columns import Json
from crm_core.connections import RUN, Told, write_mark
from crm_core.feedback import Verdict, give_feedback
from crm_core.forms import AskedField, FormSubmission, WantedForm, make_form
from crm_core.idempotency import claim_key, keep_answer
from crm_core.incoming.mailboxes import Mailbox
from crm_core.incoming.tray import IntakeItem
from crm_core.jobs import Job, enqueue
from crm_core.mail_templates import MailTemplate
from crm_core.messages import DeadAddress, Message
from crm_core.personal import erase_person
from crm_core.predictions import Prediction
from crm_core.records import RECORD_TYPES, Base, Lead
from crm_core.saved import SavedReport, SavedView, Segment
from crm_core.sequences import MailSequence, SequenceRun
from crm_core.store import Store
from crm_core.uploads import Import
from tests.factories import make_user
from tests.test_erasing_a_home import TASK, Someone

NEVER_SAYS_WHO = {
    "alert_actions": {"action"},
    "alert_preferences": {"mail"},
    "approvals": {"kind", "state", "currency", "fingerprint"},
    "alert_receivers": {"why"},
    "alerts": {"kind", "record_type", "cause", "money", "state", "closed_why"},
    "automation_rules": {"shipped"},
    "automation_runs": {"cause", "record_type", "outcome", "did", "error"},
    "automation_turns": {"place"},
    "challengers": {"task", "model_version", "sha256", "run_id"},
    "changes": {"record_type", "action", "field", "source"},
    "connection_marks": {"connection", "kind"},
    "connection_told": {"connection", "record_type", "model_version"},
    "coverage": {"record_type"},
    "cursors": {"name"},
    "custom_record_types": {"name", "label_en", "label_zh", "links"},
    "distinct_records": {"record_type"},
    "form_submissions": {"key", "digest", "address", "standing", "why", "language"},
    "form_wordings": {"text"},
    "field_rights": {"role", "record_type", "field"},
    "fields": {"record_type", "name", "kind", "known", "label_en", "label_zh", "choices", "target"},
    "imports": {"folder", "state"},
    "jobs": {"kind", "key", "topic", "state", "leased_by"},
    "calendar_feeds": {"hash"},
    "intake_items": {"kind", "state", "candidates"},
    "kept_answers": {"fingerprint"},
    "kept_forecasts": {"scope", "champion", "content"},
    "login_failures": {"key"},
    "mail_templates": {"language", "shared"},
    "mail_sequences": {"record_type", "steps"},
    "mailboxes": {"name", "leased_by"},
    "messages": {"key", "direction", "kind", "state", "about_type", "leave_token", "source"},
    "login_sessions": {"hash"},
    "notifications": {"kind", "about_type", "text", "params"},
    "operations": {"done", "via", "address", "record_type", "record_ids", "detail"},
    "preferences": {"views"},
    "predictions": {"task", "record_type", "model_version", "grade", "within", "yearly_value"},
    "number_series": {"name"},
    "promotions": {"task", "model_version", "sha256", "run_id", "reason", "gate"},
    "rescoring_lots": {"task", "leased_by"},
    "rescoring_sweeps": {"task", "model_version"},
    "rescoring_work": {"task", "leased_by", "error"},
    "rescoring_workers": {"name", "host", "error"},
    "role_rights": {"role", "record_type", "read", "write"},
    "sales_settings": {"company", "address", "footer", "limits", "reminder_days"},
    "report_mails": {"every", "at", "zone"},
    "saved_reports": {"shared"},
    "saved_views": {"record_type", "shared"},
    "score_feedback": {"task", "model_version", "record_type", "verdict", "reason"},
    "search_fresh": {"record_type"},
    "search_segments": {"record_type"},
    "segments": {"record_type", "shared"},
    "sequence_runs": {"record_type", "state"},
    "shadow_predictions": {
        *{"task", "record_type", "model_version", "champion_version", "grade", "champion_grade"},
    },
    "stage_settings": {
        "pipeline",
        "stage",
        "name_en",
        "name_zh",
        "required",
        "note",
        "checklist",
        "playbook",
    },
    "stage_ticks": {"stage", "item"},
    "targets": {"whose", "period", "measure", "currency"},
    "tokens": {"name", "hash", "scopes"},
    "webhook_endpoints": {
        *{"name", "url", "event_types", "secret_salt", "secret_mark", "former_salt", "disabled_reason"},
    },
    "special_days": {"name"},
    "queue_turns": {"queue"},
    "service_targets": {"queue", "priority"},
    "ticket_clocks": {"done"},
    "ticket_queues": {"key", "name", "members"},
    "web_forms": {"public_id", "name", "source", "fields", "texts", "origins"},
    "working_weeks": {"zone", "hours", "country"},
}
"""Words of the program, hashes, and what administrators call their own things, by table."""

A_FORM = WantedForm(name="Contact", source="web form", fields=[AskedField(field="email", required=True)])


def keep_rule(session: Session, text: str, now: datetime) -> None:
    """Keep a rule of automation that looks for somebody."""
    since = dict.fromkeys(("since_sequence", "since_prediction", "since_alert"), 0)
    session.add(rule := AutomationRule(active=False, version=1, **since))
    session.flush()
    looks_for = {"condition": [f"email:eq:{text}"]}
    session.add(AutomationVersion(rule_id=rule.id, version=1, declared=looks_for, saved_at=now))


def free_texts() -> dict[str, set[str]]:
    """Return the columns of all tables but records' that may hold what somebody wrote about somebody."""
    records = {model.__tablename__ for model in RECORD_TYPES.values()}
    found = {
        table.name: {column.name for column in table.columns if isinstance(column.type, String | Text | Json)}
        - NEVER_SAYS_WHO.get(table.name, set())
        for table in Base.metadata.sorted_tables
        if table.name not in records
    }
    return {table: columns for table, columns in found.items() if columns}


def test_of_an_erased_person_no_table_says_anything(store: Store) -> None:
    someone = Someone(number=7)
    words = " and ".join(someone.told.values())
    elsewhere = words.replace(someone.told["name"], "They")  # of a namesake, where nothing says of whom
    with store.transaction() as transaction:
        session, now = transaction.session, transaction.now
        lead = transaction.create(Lead(**someone.told)).id
        transaction.create(Lead(name=someone.told["name"]))  # the name alone tells nobody any more
        user = make_user(transaction, "Adam", role="admin")
        claim_key(session, user.id, someone.told["email"], "0" * 64, now=now)
        headers = {"Location": words}
        keep_answer(session, user.id, someone.told["email"], status=200, headers=headers, body=words)
        said = Prediction(
            task=TASK,
            record_type="lead",
            record_id=lead,
            as_of=now,
            recorded_at=now,
            model_version="m-1",
            horizon_days=90,
            reasons=[{"en": words}],
        )
        session.add(said)
        session.flush()
        give_feedback(transaction, said, user_id=user.id, verdict=Verdict.WRONG, text=words)
        about: dict[str, Any] = {"record": ["lead", lead], "content": {"data": {"values": someone.told}}}
        for number, payload in enumerate((about, {"data": {"record_type": "lead", "record_id": lead}})):
            enqueue(session, "mail", {**payload, "text": words}, now=now, key=f"mail:{number}")
        session.execute(update(Job).values(last_error=words))
        write_mark(session, "hubspot", RUN, {"errors": [elsewhere]}, now=now)
        refusal: dict[str, Any] = {
            "connection": "hubspot",
            "record_type": "lead",
            "record_id": lead,
            "attempts": 1,
        }
        session.add(Told(**refusal, error=words))
        alert = Alert(
            kind="churn_level",
            record_type="account",
            record_id=1,
            cause="c",
            probability=1,
            prediction_id=said.id,
            raised_at=now,
        )
        session.add(alert)
        session.flush()
        session.add(AlertAction(alert_id=alert.id, action="snoozed", at=now, note=elsewhere))
        kept: dict[str, Any] = {"user_id": user.id, "record_type": "lead", "shared": "own", "saved_at": now}
        mine = {"user_id": user.id, "shared": "own", "saved_at": now}
        session.add(SavedReport(name=elsewhere, asked={"filters": [f"email:eq:{elsewhere}"]}, **mine))
        session.add(SavedView(name=elsewhere, asked={"q": elsewhere}, **kept))
        session.add(Segment(name=elsewhere, filter=[f"email:eq:{elsewhere}"], tag=elsewhere[:60], **kept))
        keep_rule(session, elsewhere, now)
        upload = {"plan": {"columns": elsewhere}, "report": {"told": elsewhere}, "failed": elsewhere}
        session.add(
            Import(user_id=user.id, folder="f", file=elsewhere, uploaded_at=now, state="failed", **upload)
        )
        keep_mail(session, someone, user_id=user.id, lead=lead, now=now)
        form = make_form(transaction, user, A_FORM)
        for number, given in enumerate(({"email": someone.told["email"]}, {"message": words})):
            row = {"key": str(number), "at": now, "standing": "held", "why": [], "given": given}
            marked = {"utm": {"content": words}, "page": f"https://example.com/{someone.told['email']}"}
            session.add(
                FormSubmission(form_id=form.id, agreed=False, wording=0, language="en", **row, **marked)
            )
        for title in (words, f"{words}!"):
            transaction.update(transaction.get(Lead, lead), {"title": title})
    texts = free_texts()
    assert {table for table in texts if not is_filled(store, table, texts[table])} == set()

    with store.transaction() as transaction:
        erase_person(transaction, record=("lead", lead))
    needles = [someone.told["email"], someone.told["phone"]]
    for table in Base.metadata.sorted_tables:
        assert told_in(store, table, needles) == [], table.name
    for name in texts:
        assert told_in(store, Base.metadata.tables[name], [someone.told["name"]]) == [], name


def keep_mail(session: Session, someone: Someone, *, user_id: int, lead: int, now: datetime) -> None:
    """Write down mails, what came in, and a sequence, in all of which somebody is named."""
    words = " and ".join(someone.told.values())
    elsewhere = words.replace(someone.told["name"], "They")
    session.add(
        MailTemplate(
            name=elsewhere,
            subject=elsewhere,
            body=elsewhere,
            user_id=user_id,
            language="en",
            shared="own",
            saved_at=now,
        )
    )
    session.add(
        Message(
            message_id=words[:120],
            direction="inbound",
            kind="direct",
            state="received",
            from_address=someone.told["email"],
            to_addresses=[someone.told["email"]],
            subject=words,
            text=words,
            in_reply_to=words[:120],
            references=[words],
            about_type="lead",
            about_id=lead,
            source="imap",
            problem=words,
            recorded_at=now,
        )
    )
    session.add(
        IntakeItem(
            kind="call",
            key=words[:200],
            state="open",
            who=someone.told["email"],
            title=words[:300],
            said={"text": words},
            candidates=[],
            happened_at=now,
            received_at=now,
        )
    )
    session.add(Mailbox(name="crm", uid_validity=1, last_uid=1, problem=elsewhere))
    sequence = MailSequence(
        user_id=user_id, name=elsewhere[:120], record_type="lead", steps=[], active=True, saved_at=now
    )
    session.add(sequence)
    session.flush()
    session.add(
        SequenceRun(
            sequence_id=sequence.id,
            record_type="lead",
            record_id=lead,
            address=someone.told["email"],
            state="stopped",
            why=words[:300],
            step=0,
            started_at=now,
        )
    )
    session.add(DeadAddress(address=someone.told["email"], problem=words, bounced_at=now))


def is_filled(store: Store, table: str, columns: set[str]) -> bool:
    """Say whether every one of some columns holds something in some row."""
    plain = Base.metadata.tables[table]
    with store.reading() as session:
        rows = session.execute(select(*(plain.c[name] for name in sorted(columns)))).all()
    return all(any(row[place] is not None for row in rows) for place in range(len(columns)))


def told_in(store: Store, table: Table, needles: list[str]) -> list[str]:
    """Return the cells of a table that hold one of some texts."""
    with store.reading() as session:
        cells = [str(cell) for row in session.execute(select(table)) for cell in row]
    return [cell for cell in cells if any(needle in cell for needle in needles)]
