"""Pictures of every page, at both widths, in both languages, light and dark, for people to look at.

    .venv/bin/python -m tests.serving.screenshots HOME FOLDER [--only PAGE ...]

HOME is the home folder of a demo; nothing in it is changed. Sessions are made here, without a password.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.promotions import Promotion
from crm_core.records import (
    Account,
    Activity,
    Article,
    Contact,
    Contract,
    Deal,
    Lead,
    Quote,
    Role,
    Ticket,
    User,
)
from crm_core.store import Store
from serving.app import create_app
from serving.auth import let_in
from serving.champions import Champions
from serving.modelling import scorer_loader
from serving.settings import Settings
from tests.serving.browser import FLAGS, chromium, serving

WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}
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


def pages_of(session: Session, cast: dict[str, User]) -> dict[str, tuple[str, str]]:
    """Return every page as name -> (role, path)."""
    mine = cast["rep"].id

    def best(model: Any, *conditions: Any) -> int:
        order = model.probability.desc().nulls_last()
        return int(session.scalars(select(model.id).where(*conditions).order_by(order).limit(1)).one())

    lead = best(Lead, Lead.owner_id == mine, Lead.status == "open")
    deal = best(Deal, Deal.owner_id == mine, Deal.status == "open")
    account = best(Account, Account.owner_id == mine)
    contact = session.scalars(select(Contact.id).where(Contact.owner_id == mine).limit(1)).first() or 1
    talked = select(Activity.subject_id).where(Activity.subject_type == "ticket")
    tickets = select(Ticket.id).where(Ticket.owner_id == mine, Ticket.id.in_(talked))
    ticket = session.scalars(tickets.limit(1)).first() or 1
    article = session.scalars(select(Article.id).limit(1)).first() or 1
    contract = session.scalars(select(Contract.id).where(Contract.deleted_at.is_(None)).limit(1)).one()
    offer = session.scalars(select(Quote.id).where(Quote.owner_id == mine).limit(1)).first() or 1
    newest = {
        each.task: each.model_version for each in session.scalars(select(Promotion).order_by(Promotion.id))
    }
    word = str(session.get_one(Lead, lead).company or session.get_one(Lead, lead).name)[:4]
    return {
        "automation": ("admin", "/admin/automation"),
        "automation-rule": ("admin", "/admin/automation/5"),
        "automation-assign": ("admin", "/admin/automation/1"),
        "automation-new": ("admin", "/admin/automation/new"),
        "automation-runs": ("admin", "/admin/automation/runs"),
        "login": ("nobody", "/login"),
        "today": ("rep", "/today"),
        "campaigns": ("manager", "/campaigns"),
        "campaigns-analyst": ("analyst", "/campaigns"),
        "campaign": ("admin", "/campaigns/1"),
        "attribution": ("manager", "/campaigns/attribution"),
        "attribution-campaign": ("admin", "/campaigns/attribution?by=campaign&model=linear"),
        "lead-quality": ("admin", "/campaigns/quality?by=campaign"),
        "web-forms": ("admin", "/campaigns/forms"),
        "web-form": ("admin", "/campaigns/forms/1"),
        "web-form-new": ("admin", "/campaigns/forms/new"),
        "web-forms-held": ("admin", "/campaigns/forms/held"),
        "today-team": ("manager", "/today"),
        "today-opened": ("rep", f"/today/deals/{deal}"),
        "board": ("rep", "/deals/board"),
        "board-team": ("manager", "/deals/board"),
        "intake": ("manager", "/intake"),
        "intake-empty": ("manager", "/intake?state=dropped"),
        "mail-letter": ("rep", f"/records/lead/{lead}/mail?template=1"),
        "mail-templates": ("manager", "/intake/templates/1"),
        "mail-sequences": ("manager", "/intake/sequences"),
        "mail-sequence": ("manager", "/intake/sequences/1"),
        "mail-calendar": ("rep", "/intake/calendar"),
        "unsubscribe": ("nobody", "/unsubscribe/none"),
        "leads": ("rep", "/leads"),
        "leads-none-fit": ("rep", "/leads?q=nothing+like+this"),
        "leads-new": ("rep", "/leads/new"),
        "lead": ("rep", f"/leads/{lead}"),
        "leads-team": ("manager", "/leads"),
        "deals": ("manager", "/deals"),
        "deal": ("rep", f"/deals/{deal}"),
        "customers": ("manager", "/customers"),
        "customer": ("rep", f"/customers/{account}"),
        "deal-edit": ("rep", f"/records/deal/{deal}/edit"),
        "deal-around": ("rep", f"/records/deal/{deal}/around"),
        "deal-delete": ("rep", f"/records/deal/{deal}/delete"),
        "contacts": ("rep", "/contacts"),
        "contact": ("rep", f"/contacts/{contact}"),
        "quote": ("rep", f"/records/quote/{offer}"),
        "quote-print": ("rep", f"/quotes/{offer}/print"),
        "approvals": ("manager", "/approvals"),
        "overdue": ("manager", "/payments/overdue"),
        "deal-money": ("rep", f"/records/deal/{deal}/money"),
        "deal-meeting": ("rep", f"/records/deal/{deal}/meeting"),
        "admin-sales": ("admin", "/admin/sales"),
        "contracts": ("manager", "/records/contract"),
        "contract": ("manager", f"/records/contract/{contract}"),
        "alerts": ("manager", "/alerts?state=running"),
        "alerts-rep": ("rep", "/alerts"),
        "alerts-none-fit": ("manager", "/alerts?kind=churn_jump"),
        "funnel": ("analyst", "/funnel"),
        "funnel-owners": ("manager", "/funnel?by=owner"),
        "funnel-leads": ("manager", "/funnel/leads?step=won"),
        "team": ("manager", "/team"),
        "team-month": ("analyst", "/team?span=month"),
        "alerts-past": ("manager", "/alerts/past"),
        "leads-filtered": (
            "rep",
            "/leads?filter=employees:ge:50&columns=probability,employees,region,tags&order=-employees",
        ),
        "import": ("rep", "/import"),
        "tickets": ("rep", "/tickets?view=all"),
        "ticket": ("rep", f"/tickets/{ticket}"),
        "ticket-new": ("rep", "/tickets/new"),
        "articles": ("rep", "/articles"),
        "article": ("rep", f"/articles/{article}"),
        "article-edit": ("rep", f"/articles/{article}/edit"),
        "admin-service": ("admin", "/admin/service"),
        "admin-working-time": ("admin", "/admin/working-time"),
        "segments": ("manager", "/lists/segments"),
        "notifications": ("manager", "/notifications"),
        "search": ("manager", "/search?q=" + quote(word)),
        "search-nothing": ("rep", "/search?q=nothing+like+this"),
        "duplicates": ("manager", "/duplicates?type=lead"),
        "duplicates-customers": ("analyst", "/duplicates?type=account"),
        "reports": ("manager", "/reports"),
        "report-people": ("manager", "/reports/show?ready=people"),
        "report-follow-ups": ("manager", "/reports/show?ready=follow_ups"),
        "report-won": ("analyst", "/reports/show?ready=won_over_time"),
        "report-stages": ("analyst", "/reports/show?ready=stages"),
        "report-new": ("rep", "/reports/show"),
        "report-behind": ("manager", "/reports/behind?measure=deals_won"),
        "report-retention": ("analyst", "/reports/retention"),
        "profile": ("rep", f"/customers/{account}/profile"),
        "forecast": ("manager", "/forecast"),
        "models": ("analyst", "/models"),
        "model": ("analyst", "/models/churn?missed=500&contact=60&capacity=30&cut=15"),
        "model-compare": ("analyst", "/models/churn/compare"),
        "model-card": ("analyst", "/models/churn/card"),
        "model-promote": ("analyst", f"/models/churn/promote?version={newest['churn']}"),
        "model-features": ("analyst", f"/models/win_probability/features?entity={deal}"),
        "account": ("rep", "/account"),
        "admin-people": ("admin", "/admin/people"),
        "admin-person": ("admin", f"/admin/people/{mine}"),
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
    }


def shoot(
    browser: Browser,
    app: Flask,
    address: str,
    cast: dict[str, User],
    pages: dict[str, tuple[str, str]],
    folder: Path,
) -> None:
    """Take every picture."""
    for language, locale in LANGUAGES.items():
        for name, (width, height) in WIDTHS.items():
            for scheme in ("light", "dark"):
                for role in {role for role, _ in pages.values()}:
                    context = browser.new_context(
                        viewport={"width": width, "height": height},
                        locale=locale,
                        color_scheme="dark" if scheme == "dark" else "light",
                    )
                    if role in cast:
                        context.add_cookies(
                            [{"name": "crm", "value": cookie_of(app, cast[role]), "url": address}]
                        )
                    tab = context.new_page()
                    for title, (seen_by, path) in pages.items():
                        if seen_by == role and (scheme == "light" or title in {"leads", "lead"}):
                            tab.goto(address + path)
                            tab.screenshot(
                                path=folder / f"{title}-{name}-{language}-{scheme}.png", full_page=True
                            )
                    context.close()


def main() -> int:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description="Pictures of every page.")
    parser.add_argument("home", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="Names of pages, as in pages_of.")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(home=chosen.home)
    store = Store(settings.home_folder.database_url)
    champions = Champions(store, scorer_loader(settings.home_folder, store))
    champions.refresh()
    app = create_app(settings, store, champions)
    with store.reading() as session:
        cast = people(session)
        pages = pages_of(session, cast)
        pages = {name: page for name, page in pages.items() if not chosen.only or name in chosen.only}
        session.expunge_all()
    with serving(app) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        shoot(browser, app, address, cast, pages, chosen.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
