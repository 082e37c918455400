"""Pictures of every page, at both widths, in both languages, light and dark, for people to look at.

    .venv/bin/python -m tests.serving.screenshots HOME FOLDER [--only PAGE ...] [--dark PAGE ...] [--axe]

HOME is the home folder of a demo; nothing in it is changed. Sessions are made here, without a password.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import axe_playwright_python
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from playwright.sync_api import Browser, Page
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.automation.kept import AutomationRule
from crm_core.forms import WebForm
from crm_core.mail_templates import MailTemplate
from crm_core.promotions import Promotion
from crm_core.records import (
    Account,
    Activity,
    ApprovalState,
    Article,
    Campaign,
    Contact,
    Contract,
    Deal,
    Lead,
    Order,
    Payment,
    Quote,
    QuoteStatus,
    Role,
    Ticket,
    User,
)
from crm_core.saved import SavedReport
from crm_core.sequences import MailSequence
from crm_core.store import Store
from serving.app import create_app
from serving.auth import let_in
from serving.champions import Champions
from serving.home import Home
from serving.modelling import scorer_loader
from serving.settings import Settings
from serving.ticket_work import token_of
from tests.serving.browser import launched, serving

AXE = next(Path(axe_playwright_python.__file__).parent.glob("axe*.js"))
WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}
IN_DARK = ("leads", "lead", "quote", "ticket", "reports", "attribution", "automation")
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}


def cookie_of(app: Flask, user: User) -> str:
    """Return the value of a session cookie of `user`."""
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    person = let_in(app.extensions["crm"].store, user, lasts=app.permanent_session_lifetime)
    return str(serializer.dumps({"_user_id": person.get_id(), "_fresh": True}))


def people(session: Session) -> dict[str, User]:
    """Return one person of each role who has records to show."""
    busiest = select(Lead.owner_id).where(Lead.status == "open", Lead.probability.is_not(None))
    rep = session.scalars(select(User).where(User.role == Role.REP, User.id.in_(busiest)).limit(1)).one()
    found = {"rep": rep}
    for role in (Role.MANAGER, Role.ANALYST, Role.ADMIN):
        found[role] = session.scalars(select(User).where(User.role == role).limit(1)).one()
    return found


PICTURED: Mapping[str, tuple[str, str]] = {
    "automation": ("admin", "/admin/automation"),
    "automation-rule": ("admin", "/admin/automation/{rule_pool}"),
    "automation-assign": ("admin", "/admin/automation/{rule}"),
    "automation-new": ("admin", "/admin/automation/new"),
    "automation-runs": ("admin", "/admin/automation/runs"),
    "login": ("nobody", "/login"),
    "today": ("rep", "/today"),
    "campaigns": ("manager", "/campaigns"),
    "campaigns-analyst": ("analyst", "/campaigns"),
    "campaign": ("admin", "/campaigns/{campaign}"),
    "attribution": ("manager", "/campaigns/attribution"),
    "attribution-campaign": ("admin", "/campaigns/attribution?by=campaign&model=linear"),
    "lead-quality": ("admin", "/campaigns/quality?by=campaign"),
    "web-forms": ("admin", "/campaigns/forms"),
    "web-form": ("admin", "/campaigns/forms/{form_number}"),
    "web-form-new": ("admin", "/campaigns/forms/new"),
    "web-forms-held": ("admin", "/campaigns/forms/held"),
    "today-team": ("manager", "/today"),
    "today-opened": ("rep", "/today/deals/{deal}"),
    "board": ("rep", "/deals/board"),
    "board-team": ("manager", "/deals/board"),
    "intake": ("manager", "/intake"),
    "intake-empty": ("manager", "/intake?state=dropped"),
    "mail-letter": ("rep", "/records/lead/{lead}/mail?template={template}"),
    "mail-templates": ("manager", "/intake/templates/{template}"),
    "mail-sequences": ("manager", "/intake/sequences"),
    "mail-sequence": ("manager", "/intake/sequences/{sequence}"),
    "mail-calendar": ("rep", "/intake/calendar"),
    "unsubscribe": ("nobody", "/unsubscribe/none"),
    "leads": ("rep", "/leads"),
    "leads-none-fit": ("rep", "/leads?q=nothing+like+this"),
    "leads-new": ("rep", "/leads/new"),
    "lead": ("rep", "/leads/{lead}"),
    "lead-suggestions": ("rep", "/records/lead/{lead}/suggestions"),
    "leads-team": ("manager", "/leads"),
    "deals": ("manager", "/deals"),
    "deal": ("rep", "/deals/{deal}"),
    "customers": ("manager", "/customers"),
    "customer": ("rep", "/customers/{customer}"),
    "deal-edit": ("rep", "/records/deal/{deal}/edit"),
    "deal-around": ("rep", "/records/deal/{deal}/around"),
    "deal-delete": ("rep", "/records/deal/{deal}/delete"),
    "contacts": ("rep", "/contacts"),
    "contact": ("rep", "/contacts/{contact}"),
    "quote": ("rep", "/records/quote/{quote}"),
    "quote-print": ("rep", "/quotes/{quote}/print"),
    "approvals": ("manager", "/approvals"),
    "overdue": ("manager", "/payments/overdue"),
    "deal-money": ("rep", "/records/deal/{deal}/money"),
    "deal-meeting": ("rep", "/records/deal/{deal}/meeting"),
    "admin-sales": ("admin", "/admin/sales"),
    "contracts": ("manager", "/records/contract"),
    "contract": ("manager", "/records/contract/{contract}"),
    "alerts": ("manager", "/alerts?state=running"),
    "alerts-rep": ("rep", "/alerts"),
    "alerts-none-fit": ("manager", "/alerts?kind=churn_jump"),
    "funnel": ("analyst", "/funnel"),
    "funnel-owners": ("manager", "/funnel?by=owner"),
    "funnel-leads": ("manager", "/funnel/leads?step=won"),
    "team": ("manager", "/team"),
    "team-unusual": ("manager", "/team/unusual"),
    "team-month": ("analyst", "/team?span=month"),
    "alerts-past": ("manager", "/alerts/past"),
    "leads-filtered": (
        "rep",
        "/leads?filter=employees:ge:50&columns=probability,employees,region,tags&order=-employees",
    ),
    "import": ("rep", "/import"),
    "tickets": ("rep", "/tickets?view=all"),
    "ticket": ("rep", "/tickets/{ticket}"),
    "ticket-new": ("rep", "/tickets/new"),
    "articles": ("rep", "/articles"),
    "article": ("rep", "/articles/{article}"),
    "article-edit": ("rep", "/articles/{article}/edit"),
    "admin-service": ("admin", "/admin/service"),
    "admin-working-time": ("admin", "/admin/working-time"),
    "segments": ("manager", "/lists/segments"),
    "notifications": ("manager", "/notifications"),
    "search": ("manager", "/search?q={word}"),
    "search-nothing": ("rep", "/search?q=nothing+like+this"),
    "duplicates": ("manager", "/duplicates?type=lead"),
    "duplicates-customers": ("analyst", "/duplicates?type=account"),
    "reports": ("manager", "/reports"),
    "report-people": ("manager", "/reports/show?ready=people"),
    "report-products": ("manager", "/reports/show?ready=deals_by_product"),
    "report-follow-ups": ("manager", "/reports/show?ready=follow_ups"),
    "report-won": ("analyst", "/reports/show?ready=won_over_time"),
    "report-stages": ("analyst", "/reports/show?ready=stages"),
    "report-new": ("rep", "/reports/show"),
    "report-behind": ("manager", "/reports/behind?measure=deals_won"),
    "report-retention": ("analyst", "/reports/retention"),
    "profile": ("rep", "/customers/{customer}/profile"),
    "forecast": ("manager", "/forecast"),
    "models": ("analyst", "/models"),
    "model": ("analyst", "/models/churn?missed=500&contact=60&capacity=30&cut=15"),
    "model-compare": ("analyst", "/models/churn/compare"),
    "model-card": ("analyst", "/models/churn/card"),
    "model-promote": ("analyst", "/models/churn/promote?version={version}"),
    "model-features": ("analyst", "/models/win_probability/features?entity={deal}"),
    "account": ("rep", "/account"),
    "admin-people": ("admin", "/admin/people"),
    "admin-person": ("admin", "/admin/people/{person}"),
    "admin-teams": ("admin", "/admin/teams"),
    "admin-rights": ("admin", "/admin/rights"),
    "admin-pipelines": ("admin", "/admin/pipelines"),
    "admin-fields": ("admin", "/admin/fields"),
    "admin-keys": ("admin", "/admin/keys"),
    "admin-webhooks": ("admin", "/admin/webhooks"),
    "admin-log": ("admin", "/admin/log"),
    "api": ("analyst", "/api/docs"),
    "missing": ("rep", "/leads/999999999"),
    "forbidden": ("rep", "/models"),
    "attribution-time-decay": ("manager", "/campaigns/attribution?model=decay"),
    "contact-edit": ("rep", "/records/contact/{contact}/edit"),
    "contract-plan": ("manager", "/records/contract/{planned}"),
    "order": ("rep", "/records/order/{order}"),
    "orders": ("manager", "/records/order"),
    "products": ("rep", "/records/product"),
    "quotes": ("rep", "/records/quote"),
    "quote-asked": ("manager", "/records/quote/{asked}"),
    "quote-sent": ("rep", "/records/quote/{sent}"),
    "payments": ("manager", "/records/payment"),
    "overdue-rep": ("rep", "/payments/overdue"),
    "approvals-rep": ("rep", "/approvals"),
    "checklist": ("rep", "/deals/{proposed}/checklist"),
    "deal-tags": ("rep", "/records/deal/{deal}/tags"),
    "account-money": ("manager", "/records/account/{paying}/money"),
    "public-form": ("nobody", "/forms/{form}"),
    "satisfaction": ("nobody", "/satisfaction/{satisfaction}"),
    "templates": ("rep", "/intake/templates"),
    "tickets-mine": ("rep", "/tickets"),
    "article-new": ("rep", "/articles/new"),
    "report-saved": ("manager", "/reports/saved/{report}"),
    "report-pivot": ("manager", "/reports/show?measure=deals_won&rows=owner&columns=quarter"),
    "funnel-rep": ("rep", "/funnel"),
    "admin-person-new": ("admin", "/admin/people/new"),
    "model-lead": ("analyst", "/models/lead_scoring"),
    "model-win": ("analyst", "/models/win_probability"),
}
"""Every page as name -> (role, path); words in braces stand for what `stand_ins` finds."""

NOT_PICTURED: Mapping[str, str] = {
    "admin_pages.show_webhook": "a demonstration calls nobody, so it has no webhook",
    "imports.show": "a demonstration has no import: making the pictures would write one",
    "list_work.show": "a demonstration has no work on a list: making the pictures would begin some",
    "models_pages.confirm_rollback": "there is one version of each model: nothing to go back to",
}
"""Pages that people open and that no picture is made of, with the reason."""


def pages_of(session: Session, cast: dict[str, User], home: Home) -> dict[str, tuple[str, str]]:
    """Return every page of a demonstration as name -> (role, path)."""
    words = stand_ins(session, cast, home)
    return {name: (role, path.format(**words)) for name, (role, path) in PICTURED.items()}


def stand_ins(session: Session, cast: dict[str, User], home: Home) -> dict[str, str]:
    """Find records to show; what there is none of is 1, whose page says that it is not there."""
    mine = cast["rep"].id

    def best(model: Any, *conditions: Any) -> int:
        order = model.probability.desc().nulls_last()
        return first(select(model.id).where(*conditions).order_by(order))

    def first(query: Any) -> int:
        return int(session.scalars(query.limit(1)).first() or 1)

    def of_mine(model: Any) -> Any:
        return model.account_id.in_(select(Account.id).where(Account.owner_id == mine))

    lead = best(Lead, Lead.owner_id == mine, Lead.status == "open")
    talked = select(Activity.subject_id).where(Activity.subject_type == "ticket")
    tickets = select(Ticket.id).where(Ticket.id.in_(talked))
    quotes = select(Quote.id).order_by(Quote.owner_id != mine, Quote.id)
    rules = dict(session.execute(select(AutomationRule.shipped, AutomationRule.id)).tuples().all())
    newest = {
        each.task: each.model_version for each in session.scalars(select(Promotion).order_by(Promotion.id))
    }
    rated = first(select(Ticket.id).where(Ticket.status == "closed", Ticket.satisfaction.is_(None)))
    found: dict[str, object] = {
        "lead": lead,
        "deal": best(Deal, Deal.owner_id == mine, Deal.status == "open"),
        "proposed": best(Deal, Deal.owner_id == mine, Deal.status == "open", Deal.stage == "proposal"),
        "customer": best(Account, Account.owner_id == mine),
        "contact": first(select(Contact.id).where(Contact.owner_id == mine)),
        "ticket": first(tickets.order_by(Ticket.owner_id != mine, Ticket.id.desc())),
        "article": first(select(Article.id)),
        "contract": first(select(Contract.id).where(Contract.deleted_at.is_(None), of_mine(Contract))),
        "planned": first(
            select(Payment.contract_id).where(Payment.contract_id.is_not(None), Payment.paid_at.is_(None))
        ),
        "paying": first(
            select(Payment.account_id)
            .where(Payment.paid_at.is_(None), of_mine(Payment))
            .order_by(Payment.due_on)
        ),
        "order": first(select(Order.id).where(of_mine(Order)).order_by(Order.quote_id.is_(None), Order.id)),
        "quote": first(quotes.where(Quote.status == QuoteStatus.DRAFT, Quote.approval.is_(None))),
        "asked": first(quotes.where(Quote.approval == ApprovalState.WAITING)),
        "sent": first(quotes.where(Quote.status == QuoteStatus.SENT)),
        "campaign": first(select(Campaign.id)),
        "form": str(session.scalars(select(WebForm.public_id).limit(1)).first() or 1),
        "form_number": first(select(WebForm.id)),
        "template": first(select(MailTemplate.id).where(MailTemplate.body.contains("{{ lead."))),
        "sequence": first(select(MailSequence.id)),
        "report": first(select(SavedReport.id)),
        "rule": rules.get("lead_by_region", 1),
        "rule_pool": rules.get("lead_pool", 1),
        "person": mine,
        "version": newest["churn"],
        "satisfaction": token_of(home, rated),
        "word": quote(str(session.get_one(Lead, lead).company or session.get_one(Lead, lead).name)[:4]),
    }
    return {name: str(value) for name, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How pages are looked at."""

    language: str
    width: str
    scheme: Literal["light", "dark"]

    @property
    def name(self) -> str:
        """How pictures taken so are called."""
        return f"{self.width}-{self.language}-{self.scheme}"


SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
LOOKS = [
    Look(language=language, width=width, scheme=scheme)
    for language, width, scheme in product(LANGUAGES, WIDTHS, SCHEMES)
]


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """Where pictures are taken of which pages, and with `axe`, whether it is asked about each."""

    browser: Browser
    app: Flask
    address: str
    cast: Mapping[str, User]
    pages: Mapping[str, tuple[str, str]]
    folder: Path
    dark: Collection[str]
    axe: bool

    def shoot(self) -> None:
        """Take every picture."""
        for look in LOOKS:
            for role in {role for role, _ in self.pages.values()}:
                shown = {name: path for name, (seen_by, path) in self.pages.items() if seen_by == role}
                if look.scheme == "dark":
                    shown = {name: path for name, path in shown.items() if name in self.dark}
                if shown:
                    self._shoot(look, role, shown)

    def _shoot(self, look: Look, role: str, shown: Mapping[str, str]) -> None:
        width, height = WIDTHS[look.width]
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            locale=LANGUAGES[look.language],
            color_scheme=look.scheme,
            bypass_csp=self.axe,
        )
        if role in self.cast:
            cookie = cookie_of(self.app, self.cast[role])
            context.add_cookies([{"name": "crm", "value": cookie, "url": self.address}])
        tab = context.new_page()
        for name, path in shown.items():
            tab.goto(self.address + path)
            tab.screenshot(path=self.folder / f"{name}-{look.name}.png", full_page=True)
            for fault in judge(tab) if self.axe else ():
                sys.stderr.write(f"{name} ({look.name}): {fault}\n")
        context.close()


def judge(tab: Page) -> list[str]:
    """Return what axe finds serious on a page, and whether it is wider than the screen."""
    tab.add_script_tag(path=AXE)
    found = tab.evaluate("axe.run().then(found => found.violations)")
    faults = [
        f"{each['id']}: {' '.join(node['html'][:200] for node in each['nodes'][:3])}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
    wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*faults, *([f"{wide} pixels too wide"] if wide > 0 else [])]


def main() -> int:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description="Pictures of every page.")
    parser.add_argument("home", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="Names of pages, as in PICTURED.")
    parser.add_argument("--dark", nargs="*", default=IN_DARK, help="Names of those also taken in dark.")
    parser.add_argument("--axe", action="store_true", help="Have axe look at each page as well.")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(home=chosen.home)
    store = Store(settings.home_folder.database_url)
    champions = Champions(store, scorer_loader(settings.home_folder, store))
    champions.refresh()
    app = create_app(settings, store, champions)
    with store.reading() as session:
        cast = people(session)
        pages = pages_of(session, cast, settings.home_folder)
        pages = {name: page for name, page in pages.items() if not chosen.only or name in chosen.only}
        session.expunge_all()
    with serving(app) as address, launched() as browser:
        Sitting(
            browser=browser,
            app=app,
            address=address,
            cast=cast,
            pages=pages,
            folder=chosen.folder,
            dark=chosen.dark,
            axe=chosen.axe,
        ).shoot()
    return 0


if __name__ == "__main__":
    sys.exit(main())
