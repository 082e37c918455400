"""Every page, where it is and who gets it: what `test_every_page` opens, and the bench of pages clicks.

An address that is not in the table fails the build.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.alerts import Alert
from crm_core.automation.kept import AutomationRule
from crm_core.automation.shipped import ship_rules
from crm_core.form_taking import Sent, take_submission
from crm_core.forms import AskedField, Texts, WantedForm, make_form
from crm_core.incoming.filing import take_mail
from crm_core.incoming.parsing import read_mail
from crm_core.mail_templates import Draft, save_template
from crm_core.predictions import NewPrediction, Prediction, write_predictions
from crm_core.promotions import Promotion, find_champion
from crm_core.quotes import add_line, write_quote
from crm_core.records import (
    Account,
    Article,
    Attachment,
    Campaign,
    CampaignMember,
    Contact,
    Deal,
    Lead,
    Line,
    Order,
    Quote,
    Role,
    Ticket,
    User,
)
from crm_core.saved import Shared
from crm_core.sequences import Step, Wanted, save_sequence
from crm_core.store import Store
from serving.alerting import Alerting
from serving.job_handlers import handlers
from serving.jobs import JobRunner
from serving.settings import Settings
from tests.serving.conftest import csrf_of, logged_in
from tests.serving.served import serve_some

R = TypeVar("R", Lead, Deal, Account)

ALL = tuple(Role)
SELLING = (Role.REP, Role.MANAGER, Role.ADMIN)
MODELLING = (Role.ANALYST, Role.ADMIN)
ADMIN = (Role.ADMIN,)
LEADING = (Role.MANAGER, Role.ADMIN)

_WORTH = [{"currency": "EUR", "amount": "9000", "of": "contract"}]


class Is(StrEnum):
    """What an address gives."""

    PAGE = "a page with everything around it"
    PART = "a part of a page, which a script asks for"
    FILE = "a file to keep"
    AWAY = "a way to another page"


@dataclass(frozen=True, kw_only=True)
class Page:
    """Addresses that one function answers; words in braces stand for what `Places` names."""

    paths: tuple[str, ...]
    roles: tuple[Role, ...] = ALL
    is_a: Is = Is.PAGE
    nobody: bool = False
    """Shown to who is not logged in."""


def page(*paths: str, roles: tuple[Role, ...] = ALL) -> Page:
    """Return a page at these addresses."""
    return Page(paths=paths, roles=roles)


def part(*paths: str, roles: tuple[Role, ...] = ALL) -> Page:
    """Return a part of a page."""
    return Page(paths=paths, roles=roles, is_a=Is.PART)


def file(*paths: str, roles: tuple[Role, ...] = ALL) -> Page:
    """Return a file."""
    return Page(paths=paths, roles=roles, is_a=Is.FILE)


PAGES: Mapping[str, Page] = {
    "web.start": Page(paths=("/",), is_a=Is.AWAY),
    "entry.show_login": Page(paths=("/login",), roles=(), nobody=True),
    "entry.go_to_provider": Page(paths=(), is_a=Is.AWAY),
    "entry.come_from_provider": Page(paths=(), is_a=Is.AWAY),
    "account.show_account": page("/account"),
    "today_pages.show": page("/today"),
    "today_pages.show_record": page(
        "/today/leads/{lead}", "/today/deals/{deal}", "/today/customers/{customer}"
    ),
    "today_pages.show_row": part("/today/leads/{lead}/row"),
    "leads_pages.list_records": page("/leads", "/leads?q=nothing+like+this"),
    "leads_pages.show": page("/leads/{lead}"),
    "leads_pages.show_score": part("/leads/{lead}/score?seen=0"),
    "leads_pages.show_new": page("/leads/new", roles=SELLING),
    "deals_pages.list_records": page("/deals"),
    "deals_pages.show": page("/deals/{deal}"),
    "deals_pages.show_score": part("/deals/{deal}/score?seen=0"),
    "board_pages.show": page("/deals/board"),
    "board_pages.show_card": part("/deals/board/{deal}"),
    "customers_pages.list_records": page("/customers"),
    "customers_pages.show": page("/customers/{customer}"),
    "customers_pages.show_score": part("/customers/{customer}/score?seen=0"),
    "alerts_pages.list_all": page("/alerts", "/alerts?state=running"),
    "alerts_pages.suggest": part("/alerts/{alert}/step"),
    "alerts_pages.past": page("/alerts/past"),
    "forecast_pages.show": page("/forecast"),
    "forecast_pages.making": part("/forecast/making"),
    "funnel_pages.show": page("/funnel"),
    "funnel_pages.export": file("/funnel/export"),
    "funnel_pages.behind": page("/funnel/leads"),
    "team_pages.show": page("/team"),
    "team_pages.show_unusual": page("/team/unusual"),
    "team_pages.export": file("/team/export"),
    "profile_pages.show": page("/customers/{customer}/profile"),
    "report_pages.show_gallery": page("/reports"),
    "report_pages.show": page("/reports/show", "/reports/show?ready=people", "/reports/show?ready=stages"),
    "report_pages.show_saved": page("/reports/saved/{report}", roles=ADMIN),
    "report_pages.save_file": file("/reports/file/csv?ready=people"),
    "report_pages.behind": page("/reports/behind?measure=deals_created&rows=owner"),
    "report_pages.show_retention": page("/reports/retention"),
    "report_pages.save_retention": file("/reports/retention/file/csv"),
    "campaign_pages.list_all": page("/campaigns"),
    "campaign_pages.export": file("/campaigns/export"),
    "campaign_pages.show": page("/campaigns/{campaign}"),
    "campaign_pages.attribution": page("/campaigns/attribution", "/campaigns/attribution?by=campaign"),
    "campaign_pages.export_attribution": file("/campaigns/attribution/export"),
    "campaign_pages.quality": page("/campaigns/quality"),
    "form_pages.list_all": page("/campaigns/forms", roles=LEADING),
    "form_pages.show_new": page("/campaigns/forms/new", roles=LEADING),
    "form_pages.show": page("/campaigns/forms/{form_number}", roles=LEADING),
    "form_pages.list_held": page("/campaigns/forms/held", roles=LEADING),
    "finding_pages.search": page("/search?q={word}", "/search?q=nothing+like+this"),
    "finding_pages.search_quickly": part("/search/quick?q={word}"),
    "finding_pages.list_duplicates": page("/duplicates?type=lead"),
    "models_pages.list_models": page("/models", roles=MODELLING),
    "models_pages.show_task": page(
        "/models/lead_scoring", "/models/win_probability", "/models/churn", roles=MODELLING
    ),
    "models_pages.show_work": part("/models/churn/jobs", roles=MODELLING),
    "models_pages.compare": page("/models/lead_scoring/compare", roles=MODELLING),
    "models_pages.confirm_promotion": page("/models/lead_scoring/promote?version={version}", roles=MODELLING),
    "models_pages.confirm_rollback": page("/models/lead_scoring/rollback", roles=MODELLING),
    "models_pages.show_card": page("/models/lead_scoring/card", roles=MODELLING),
    "models_pages.explore_features": page("/models/lead_scoring/features?entity={lead}", roles=MODELLING),
    "notifications.list_all": page("/notifications"),
    # For strangers, inside of other sites: nothing of ours is around it.
    "public_forms.show": Page(paths=("/forms/{form}",), roles=(), is_a=Is.PART, nobody=True),
    "public_forms.give_sheet": Page(paths=("/forms/{form}/sheet",), roles=(), is_a=Is.FILE, nobody=True),
    "record_pages.list_contacts": page("/contacts"),
    "ticket_pages.list_records": page("/tickets", "/tickets?view=all"),
    "ticket_pages.show": page("/tickets/{ticket}"),
    "ticket_pages.show_new": page("/tickets/new", roles=SELLING),
    "article_pages.list_records": page("/articles", "/articles?q={word}"),
    "article_pages.show": page("/articles/{article}", "/articles/{article}?version=1"),
    "article_pages.show_new": page("/articles/new", roles=SELLING),
    "article_pages.show_edit": page("/articles/{article}/edit", roles=SELLING),
    "satisfaction_pages.show": Page(paths=("/satisfaction/{satisfaction}",), nobody=True),
    "record_pages.list_records": page("/records/order"),
    "record_pages.show_contact": page("/contacts/{contact}"),
    "record_pages.show": page("/records/order/{order}", "/records/quote/{quote}"),
    "record_pages.show_timeline": part("/records/deal/{deal}/timeline"),
    "record_pages.show_causes": part("/records/lead/{lead}/causes"),
    "record_tags.show_tags": page("/records/deal/{deal}/tags"),
    "record_pages.show_around": page("/records/deal/{deal}/around"),
    "record_pages.show_suggestions": page(
        "/records/deal/{deal}/suggestions", "/records/account/{customer}/suggestions"
    ),
    "record_pages.show_edit": page("/records/deal/{deal}/edit", roles=SELLING),
    "record_pages.list_choices": part("/records/-/choices/account?q={word}"),
    "record_pages.list_people": part("/records/-/people?q=a"),
    "record_pages.ask_to_delete": page("/records/deal/{deal}/delete", roles=SELLING),
    "selling_pages.list_approvals": page("/approvals"),
    "selling_pages.show_overdue": page("/payments/overdue"),
    "selling_pages.show_money": page("/records/deal/{deal}/money"),
    "selling_pages.show_checklist": page("/deals/{deal}/checklist"),
    "selling_pages.show_meeting": page("/records/deal/{deal}/meeting", roles=SELLING),
    "selling_pages.print_quote": part("/quotes/{quote}/print"),
    "file_pages.save_file": file("/files/{file}"),
    "imports.show_start": page("/import", roles=SELLING),
    "imports.show": page("/import/{import}", roles=ADMIN),
    "imports.show_progress": part("/import/{import}/progress", roles=ADMIN),
    "imports.download_refused": file("/import/{import}/refused.csv", roles=ADMIN),
    "intake_pages.show": page("/intake", "/intake?state=dropped"),
    "mail_pages.show_letter": page(
        "/records/lead/{lead}/mail",
        "/records/lead/{lead}/mail?template={template}",
        "/records/deal/{deal}/mail",
        roles=SELLING,
    ),
    "mail_pages.show_templates": page("/intake/templates"),
    "mail_pages.show_template": page("/intake/templates/{template}"),
    "mail_pages.show_sequences": page("/intake/sequences"),
    "mail_pages.show_sequence": page("/intake/sequences/{sequence}"),
    "mail_pages.show_calendar": page("/intake/calendar"),
    "mail_pages.ask_to_unsubscribe": Page(paths=("/unsubscribe/none",), nobody=True),
    "mail_pages.give_calendar": Page(paths=(), is_a=Is.FILE),
    "lists.show_segments": page("/lists/segments"),
    "list_work.show": page("/jobs/{work}", roles=ADMIN),
    "list_work.show_progress": part("/jobs/{work}/progress", roles=ADMIN),
    "list_work.download": file("/jobs/{work}/file", roles=ADMIN),
    "admin_pages.start": Page(paths=("/admin",), roles=ADMIN, is_a=Is.AWAY),
    "admin_pages.list_webhooks": page("/admin/webhooks", roles=ADMIN),
    "admin_pages.show_webhook": page("/admin/webhooks/{webhook}", roles=ADMIN),
    "admin_pages.show_service": page("/admin/service", roles=ADMIN),
    "admin_pages.show_working_time": page("/admin/working-time", roles=ADMIN),
    "admin_pages.show_pipelines": page("/admin/pipelines", roles=ADMIN),
    "admin_pages.show_sales": page("/admin/sales", roles=ADMIN),
    "admin_pages.list_fields": page("/admin/fields", roles=ADMIN),
    "admin_pages.list_automation": page("/admin/automation", roles=ADMIN),
    "admin_pages.list_automation_runs": page("/admin/automation/runs", roles=ADMIN),
    "admin_pages.show_new_rule": page("/admin/automation/new", roles=ADMIN),
    "admin_pages.show_rule": page("/admin/automation/{rule}", roles=ADMIN),
    "admin_pages.list_keys": page("/admin/keys", roles=ADMIN),
    "admin_pages.show_log": page("/admin/log", roles=ADMIN),
    "admin_pages.list_people": page("/admin/people", roles=ADMIN),
    "admin_pages.show_new_person": page("/admin/people/new", roles=ADMIN),
    "admin_pages.show_person": page("/admin/people/{person}", roles=ADMIN),
    "admin_pages.show_rights": page("/admin/rights", roles=ADMIN),
    "admin_pages.list_teams": page("/admin/teams", roles=ADMIN),
    "specification.show_document": Page(paths=("/api/docs",), nobody=True),
    "specification.get_document": file("/api/openapi.json"),
}
"""By endpoint, every address that answers to GET and is not of the API."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Who looks, one person a role, and what the words in addresses stand for."""

    cast: Mapping[Role, User]
    stands_for: Mapping[str, str]

    def of(self, role: Role | None, endpoints: Iterable[str] = PAGES) -> list[tuple[str, str]]:
        """Return endpoint and address of everything that somebody, or nobody, gets."""
        return [
            (endpoint, path.format(**self.stands_for))
            for endpoint in endpoints
            for path in PAGES[endpoint].paths
            if (PAGES[endpoint].nobody if role is None else role in PAGES[endpoint].roles)
        ]


def find_cast(session: Session) -> dict[Role, User]:
    """Return one person of each role; the one who sells is who has most to do."""
    busiest = select(Lead.owner_id).where(Lead.status == "open", Lead.probability.is_not(None))
    found = {
        Role.REP: session.scalars(
            select(User).where(User.role == Role.REP, User.id.in_(busiest)).limit(1)
        ).one()
    }
    for role in (Role.MANAGER, Role.ANALYST, Role.ADMIN):
        found[role] = session.scalars(select(User).where(User.role == role).order_by(User.id).limit(1)).one()
    return found


def find_places(app: Flask, store: Store, settings: Settings) -> Places:
    """Find records to show, and make what a simulated company has none of: an import, an export, a webhook.

    A company too small for a model of churn, or that nobody is about to leave, is warned by hand.
    """
    with store.reading() as session:
        cast = find_cast(session)
        session.expunge_all()
    rep = cast[Role.REP].id
    admin = logged_in(app, cast[Role.ADMIN])
    _promote_again(store)
    Alerting(store).run_until_done()
    _warn(store, cast[Role.REP].id)
    Alerting(store).run_until_done()
    made = {
        "import": _import(admin),
        "work": _export(admin),
        "webhook": _webhook(admin),
        "rule": _rule(store),
        "file": _file(admin, store, rep),
        "report": _report(admin),
        **make_a_form(store, cast[Role.ADMIN]),
        **_mailing(store, cast[Role.ADMIN]),
    }
    served = serve_some(store, rep, settings)
    made["satisfaction"] = served.token
    runner = JobRunner(store, handlers(settings))
    while runner.run_once():
        pass
    offered = _offer(store, rep)
    with store.reading() as session:
        lead = _best(session, Lead, Lead.owner_id == rep, Lead.status == "open")
        own = Account.owner_id == rep
        contact, order = (
            session.scalars(
                select(each).join(Account, Account.id == each.account_id).where(own).limit(1)
            ).one()
            for each in (Contact, Order)
        )
        records: dict[str, Any] = {
            "contact": contact,
            "order": order,
            "lead": lead,
            "deal": _best(session, Deal, Deal.owner_id == rep, Deal.status == "open"),
            "customer": _best(session, Account, Account.owner_id == rep),
            "alert": session.scalars(select(Alert).where(Alert.record_type == "account").limit(1)).one(),
            "ticket": session.get_one(Ticket, served.ticket),
            "article": session.get_one(Article, served.article),
        }
        stands_for = {name: str(record.id) for name, record in records.items()}
        stands_for["version"] = champion_of(session).model_version
        stands_for["quote"] = str(offered)
        word = quote(str(lead.company or lead.name)[:4])
    return Places(cast=cast, stands_for={**made, **stands_for, "word": word, "person": str(rep)})


def champion_of(session: Session) -> Promotion:
    """Return the promotion of what scores leads."""
    champion = find_champion(session, "lead_scoring")
    assert champion is not None
    return champion


def _promote_again(store: Store) -> None:
    """Have a version before the one that serves, to go back to."""
    with store.transaction() as transaction:
        serves = champion_of(transaction.session)
        for version in ("lead_scoring-2-00000000", serves.model_version):
            transaction.session.add(
                Promotion(
                    task=serves.task,
                    model_version=version,
                    sha256=serves.sha256,
                    run_id=serves.run_id,
                    promoted_at=transaction.now,
                    reason="tried for a day",
                )
            )


def _best(session: Session, model: type[R], *conditions: Any) -> R:
    order = model.__table__.c.probability.desc().nulls_last()
    return session.scalars(select(model).where(*conditions).order_by(order).limit(1)).one()


def _warn(store: Store, owner_id: int) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        if session.scalar(select(Alert.id).where(Alert.record_type == "account").limit(1)) is not None:
            return
        said = (
            select(Prediction.model_version).where(Prediction.task == "churn").order_by(Prediction.id.desc())
        )
        version = session.scalar(said.limit(1))
        accounts = session.scalars(select(Account.id).where(Account.owner_id == owner_id)).all()
        made = [
            NewPrediction(
                record_id=account,
                probability=0.6,
                score=60,
                grade="D",
                reasons=[],
                yearly_value=_WORTH,
            )
            for account in (accounts if version is None else accounts[:1])
        ]
        write_predictions(
            transaction,
            task="churn",
            record_type="account",
            as_of=transaction.now,
            model_version=version or "churn-1",
            horizon_days=90,
            predictions=made,
        )


def _offer(store: Store, rep: int) -> int:
    """Write a quote of somebody's best deal."""
    with store.transaction() as transaction:
        deal = _best(transaction.session, Deal, Deal.owner_id == rep, Deal.status == "open")
        offer = write_quote(transaction, Quote(deal_id=deal.id, owner_id=rep, status="draft"))
        add_line(transaction, Line(quote_id=offer.id, text="Pump", quantity=2.0, unit_price=Decimal(99)))
        return offer.id


def _import(admin: FlaskClient) -> str:
    data = {
        "csrf_token": csrf_of(admin.get("/import").text),
        "record_type": "lead",
        "file": (io.BytesIO("姓名,公司,邮箱\n王芳,方大水泵,wang@fangda.example\n".encode()), "leads.csv"),
    }
    answer = admin.post("/import", data=data, content_type="multipart/form-data")
    return answer.location.rsplit("/", 1)[1]


def _export(admin: FlaskClient) -> str:
    data = {
        "csrf_token": csrf_of(admin.get("/leads").text),
        "action": "export",
        "which": "all",
        "format": "csv",
    }
    return admin.post("/lists/lead/many", data=data).location.rsplit("/", 1)[1]


def _report(admin: FlaskClient) -> str:
    data = {
        "csrf_token": csrf_of(admin.get("/reports/show?ready=people").text),
        "name": "Won by person",
        "measure": "deals_won",
        "rows": "owner",
    }
    return admin.post("/reports/save", data=data).location.rsplit("/", 1)[1]


def _mailing(store: Store, admin: User) -> dict[str, str]:
    """Save a template for all and a sequence, and have a mail wait in the tray."""
    with store.transaction() as transaction:
        subject, body = (
            "{{ lead.company | default('Hello') }}",
            "Dear {{ lead.first_name | default('all') }},",
        )
        draft = Draft(name="Hello", subject=subject, body=body, shared=Shared.ALL)
        template = save_template(transaction, admin, draft)
        wanted = Wanted(name="Warm up", record_type="lead", steps=(Step(template_id=template.id),))
        sequence = save_sequence(transaction, admin, wanted)
        take_mail(
            transaction, read_mail(b"From: tom@hill.example\nSubject: Pumps?\n\nHello"), source="upload"
        )
        return {"template": str(template.id), "sequence": str(sequence.id)}


def _rule(store: Store) -> str:
    """Return one of the rules that come along."""
    ship_rules(store)
    with store.reading() as session:
        return str(session.scalars(select(AutomationRule.id).order_by(AutomationRule.id).limit(1)).one())


def _webhook(admin: FlaskClient) -> str:
    data = {
        "csrf_token": csrf_of(admin.get("/admin/webhooks").text),
        "url": "https://hooks.example.com/crm",
        "name": "Stock",
        "event_types": "lead.*",
    }
    shown = admin.post("/admin/webhooks", data=data).text
    found = re.search(r"/admin/webhooks/(\d+)/", shown)
    assert found is not None
    return found[1]


def make_a_form(store: Store, user: User) -> dict[str, str]:
    """Make a campaign with a member, and a web form with something held; return what stands for them."""
    asked = [AskedField(field="name"), AskedField(field="email", required=True)]
    consent = Texts(en="You may write to me.", zh="可以给我发邮件。")
    with store.transaction(actor_id=user.id) as transaction:
        campaign = transaction.create(Campaign(name="Spring fair", channel="event", cost=Decimal(900)))
        lead = transaction.session.scalars(select(Lead.id).limit(1)).one()
        transaction.create(CampaignMember(campaign_id=campaign.id, lead_id=lead))
        wanted = WantedForm(
            name="Contact us", source="web form", fields=asked, consent=consent, campaign_id=campaign.id
        )
        form = make_form(transaction, user, wanted)
        sent = Sent(key="1", values={"email": "x@y.example", "name": "www.buy.example"}, seconds=1)
        held = take_submission(transaction, form, sent)
        return {
            "form": form.public_id,
            "form_number": str(form.id),
            "campaign": str(campaign.id),
            "submission": str(held.id),
        }


def _file(admin: FlaskClient, store: Store, rep: int) -> str:
    with store.reading() as session:
        deal = _best(session, Deal, Deal.owner_id == rep, Deal.status == "open").id
    page = admin.get(f"/records/deal/{deal}/around").text
    data = {"csrf_token": csrf_of(page), "file": (io.BytesIO(b"%PDF-1.4"), "offer.pdf")}
    admin.post(f"/records/deal/{deal}/files", data=data, content_type="multipart/form-data")
    with store.reading() as session:
        return str(session.scalars(select(Attachment.id).order_by(Attachment.id.desc()).limit(1)).one())
