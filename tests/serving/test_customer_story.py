"""One customer from the web form to the renewal, in a real browser, in both languages.

Each step stands on a timeline once it is done; at the end that of the customer tells all of them, and the
reports count them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from crm_core.automation.following import Follower
from crm_core.automation.keeping import set_active
from crm_core.automation.kept import list_rules
from crm_core.automation.shipped import SHIPPED, ship_rules
from crm_core.forms import AskedField, Texts, WantedForm, make_form
from crm_core.operations import Origin, Via
from crm_core.records import Campaign, Product, Ticket
from crm_core.store import Store
from serving.alerting import Alerting, thresholds
from serving.app import create_app
from serving.automation import make_follower
from serving.champions import Champions
from serving.rescoring import Rescorer
from serving.settings import Settings
from serving.ticket_work import token_of
from tests.conftest import MONDAY
from tests.serving.browser import serving
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel
from tests.serving.story import RunningClock
from tests.serving.walking import Walk

TODAY: Final = MONDAY.date()
ENDS_ON: Final = TODAY + timedelta(days=25)
"""So soon that the renewal is due at once."""

ASKED: Final = ("name", "company", "email", "phone", "region", "message")
NAMED: Final = {rule.key: {"en": rule.en, "zh": rule.zh} for rule in SHIPPED}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What people type on the way, in the language of the walk."""

    team: str
    person: str
    company: str
    wish: str
    call: str
    product: str
    why: str
    trouble: str
    answer: str
    currency: str
    won: str
    signed: str
    received: str
    """The deal, both contracts together, and the first payment, as the pages write them."""


TOLD: Final = {
    "en": Told(
        team="North",
        person="Ruth Hill",
        company="Hill Pumps",
        wish="We need ten pumps by summer",
        call="Talked about the offer",
        product="Pump P7",
        why="They order again next year",
        trouble="A pump leaks",
        answer="A new seal is on its way",
        currency="EUR",
        won="€800",
        signed="€1,600",
        received="€320",
    ),
    "zh": Told(
        team="华东",
        person="王小明",
        company="晨光水泵有限公司",
        wish="夏天前需要十台水泵",
        call="谈了报价",
        product="水泵 P7",
        why="客户明年还会下单",
        trouble="水泵漏水",
        answer="新密封圈已寄出",
        currency="CNY",
        won="¥800",
        signed="¥1,600",
        received="¥320",
    ),
}


class MovedClock(RunningClock):
    """A running clock that is also moved on by hand."""

    def advance(self, step: timedelta) -> None:
        """Move on by a step."""
        self._ahead += step


@dataclass(frozen=True, kw_only=True)
class World:
    """A served store, with what otherwise runs in threads beside the pages done when it is asked for."""

    address: str
    store: Store
    settings: Settings
    clock: MovedClock
    rescorer: Rescorer
    follower: Follower
    alerting: Alerting

    def settle(self) -> None:
        """Score what changed, warn of what was said, and have rules act on all of it."""
        while self.rescorer.run_once():
            pass
        self.alerting.run_until_done()
        self.follower.run_until_done()

    def find(self, query: Any) -> Any:
        """Return the one value that a query finds."""
        with self.store.reading() as session:
            return session.scalars(query).one()


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    store: Store,
    cast: Cast,
    settings: Settings,
    promote: Any,
    models: dict[str, HandMadeModel],
) -> Iterator[World]:
    """The cast, in a language, and models by plain rules: calls win, and whoever is not content leaves."""
    clock = MovedClock(MONDAY)
    store.clock = clock
    settings = settings.model_copy(
        update={"language": request.param, "api_rate": 0, "anonymous_rate": 0, "login_rate": 0}
    )
    promote(
        "lead_scoring",
        probability=counting(store, "activities WHERE kind = 'call' AND lead_id = ?", 0.2, 0.3),
    )
    promote("win_probability", probability=lambda _: 0.6)
    promote(
        "churn", probability=counting(store, "tickets WHERE satisfaction <= 2 AND account_id = ?", 0.1, 0.5)
    )
    champions = Champions(store, lambda task, promotion: models[promotion.model_version], look_seconds=0)
    ship_rules(store)
    with serving(create_app(settings, store, champions)) as address:
        yield World(
            address=address,
            store=store,
            settings=settings,
            clock=clock,
            rescorer=Rescorer(store, champions),
            follower=make_follower(settings, store),
            alerting=Alerting(store, thresholds(settings)),
        )


def counting(store: Store, what: str, base: float, each: float) -> Callable[[int], float]:
    """Return a rule by which a chance is `base`, and `each` more for each row that a record has."""

    def probability(record_id: int) -> float:
        with store.reading() as session:
            found = session.connection().exec_driver_sql(f"SELECT count(*) FROM {what}", (record_id,))
            return min(0.95, base + each * int(found.scalar_one()))

    return probability


def furnish(world: World, cast: Cast, told: Told) -> str:
    """Have a team to assign to, a product, a campaign with a form, and the rule that assigns switched on."""
    with world.store.transaction(actor_id=cast["Adam"].id) as transaction:
        adam = transaction.get(type(cast["Adam"]), cast["Adam"].id)
        transaction.update(transaction.get(type(cast.north), cast.north.id), {"name": told.team})
        transaction.update(transaction.get(type(adam), cast["Ben"].id), {"team_id": cast.south.id})
        transaction.create(Product(name=told.product, price=Decimal(100), currency=told.currency))
        campaign = transaction.create(
            Campaign(name="Spring", channel="web", cost=Decimal(50), currency=told.currency)
        )
        asked = tuple(AskedField(field=name, required=name == "email") for name in ASKED)
        wanted = WantedForm(
            name="Website",
            source="web form",
            fields=asked,
            campaign_id=campaign.id,
            consent=Texts(en="You may write to me", zh="同意接收邮件"),
        )
        form = make_form(transaction, adam, wanted)
        switch_on(transaction, adam, "lead_by_region")
        return form.public_id


def switch_on(transaction: Any, admin: Any, key: str) -> None:
    """Switch on a rule that comes along."""
    (rule,) = [each for each in list_rules(transaction.session) if each.kept.shipped == key]
    origin = Origin(via=Via.PAGE, user_id=admin.id)
    set_active(transaction, admin, rule.kept.id, active=True, origin=origin)


@pytest.mark.parametrize(
    ("world", "language", "width"), [("en", "en", 1440), ("zh", "zh", 390)], indirect=["world"]
)
def test_a_customer_from_the_web_form_to_the_renewal(
    browser: Browser, world: World, cast: Cast, language: str, width: int
) -> None:
    told = TOLD[language]
    walk = Walk(browser=browser, address=world.address, language=language, width=width)
    form = furnish(world, cast, told)
    stranger = walk.open()
    somebody_sends_the_form(walk, world, told, stranger, form)
    ana = walk.log_in("ana")
    ana_is_given_the_lead_and_calls(walk, world, told, ana)
    customer = ana_converts_it(walk, world, told, ana)
    quote = ana_offers_more_than_she_may(walk, told, ana)
    mara = walk.log_in("mara")
    mara_approves(walk, told, mara)
    contract = ana_wins_it(walk, world, told, ana, quote, customer)
    ana_plans_and_receives_money(walk, told, ana, contract)
    ana_solves_a_ticket(walk, told, ana, customer)
    the_customer_is_not_content(walk, world, stranger)
    ana_is_warned(walk, world, told, ana, customer)
    adam = walk.log_in("adam")
    the_renewal_begins_by_rule(walk, world, adam)
    ana_renews(walk, world, ana, contract)
    the_customers_timeline_tells_it_all(walk, told, ana, customer)
    the_reports_count_it(walk, told, mara)
    assert walk.faults == []
    for page in (stranger, ana, mara, adam):
        page.context.close()


# -------------------------------------------------------------------------------- from lead to deal


def somebody_sends_the_form(walk: Walk, world: World, told: Told, page: Page, form: str) -> None:
    walk.go(page, f"/forms/{form}?lang={walk.language}&utm_source=news&utm_medium=mail")
    given = (told.person, told.company, "buyer@example.org", "+86 139 1234 5678", told.team, told.wish)
    for name, text in zip(ASKED, given, strict=True):
        page.locator(f"[name={name}]").fill(text)
    page.locator("#consent").check()
    world.clock.advance(timedelta(seconds=20))  # nobody fills it in faster than in three
    walk.press(page, "Send")
    expect(page.locator("[role=status]")).to_be_visible()
    world.settle()


def ana_is_given_the_lead_and_calls(walk: Walk, world: World, told: Told, page: Page) -> None:
    """The rule gave her the lead of her region; a call moves its score."""
    walk.go(page, "/notifications")
    row = page.locator(".told .is-unread").first
    expect(row).to_contain_text(told.person)
    row.locator("button[name=go]").click()
    expect(page.locator("h1")).to_contain_text(told.company)
    walk.fits(page)
    expect(page.locator('[data-fact="source"]')).to_contain_text(walk.said("Web form"))
    timeline = page.locator("#timeline")
    expect(timeline).to_contain_text(told.wish)
    expect(timeline).to_contain_text(f"{walk.said('Owner')}: Ana")
    expect(page.locator("#score .verdict-number")).to_have_text("20%")
    page.locator("#subject").fill(told.call)
    walk.press(page, "Log it")
    expect(timeline).to_contain_text(told.call)
    world.settle()
    expect(page.locator("#score .verdict-number")).to_have_text("50%")


def ana_converts_it(walk: Walk, world: World, told: Told, page: Page) -> str:
    """Return the address of the customer that the lead became; its deal is on the page then."""
    page.locator("#end summary").first.click()
    page.locator("#end-deal-amount").fill("1000")
    page.locator("#end-deal-currency").fill(told.currency)
    walk.fits(page)
    walk.press(page, "Convert")
    page.wait_for_url("**/deals/*")
    walk.fits(page)
    timeline = page.locator("#timeline")
    for text in (told.call, told.wish, walk.said("Converted")):
        expect(timeline).to_contain_text(text)
    expect(page.locator('[data-fact="contact_id"]')).to_contain_text(told.person)
    world.settle()
    return page.locator(".list-head a[href^='/customers/']").get_attribute("href") or ""


# -------------------------------------------------------------------------------- from quote to money


def ana_offers_more_than_she_may(walk: Walk, told: Told, page: Page) -> str:
    """Return the address of a quote of ten pumps for a fifth less than the price list says."""
    page.locator("#money").get_by_role("button", name=walk.said("New quote")).click()
    page.wait_for_url("**/records/quote/*")
    page.locator("#product_id").select_option(index=1)
    page.locator("#quantity").fill("10")
    page.locator("#discount").fill("20")
    walk.press(page.locator("#quote"), "Add")
    expect(page.locator("table.offer")).to_contain_text(told.product)
    page.locator("#note").fill(told.why)
    walk.fits(page)
    walk.press(page, "Ask for approval")
    expect(page.locator("#quote .alert-warning")).to_contain_text("Mara")
    return page.url.removeprefix(walk.address)


def mara_approves(walk: Walk, told: Told, page: Page) -> None:
    walk.go(page, "/approvals")
    asked = page.locator("[aria-labelledby=waiting-title] article")
    expect(asked).to_contain_text(told.company)
    expect(asked).to_contain_text(told.why)
    asked.locator("button[value=approve]").click()
    expect(asked).to_have_count(0)
    walk.fits(page)


def ana_wins_it(walk: Walk, world: World, told: Told, page: Page, quote: str, customer: str) -> str:
    """Send it, note that it was accepted and signed, win the deal; return the address of the contract."""
    walk.go(page, quote)
    expect(page.locator("#quote .alert-success")).to_contain_text("Mara")
    walk.press(page, "Mark as sent")
    page.get_by_text(walk.said("Accepted, with a contract"), exact=True).click()
    page.locator("#accept-starts").fill(TODAY.isoformat())
    page.locator("#accept-ends").fill(ENDS_ON.isoformat())
    walk.press(page, "Accepted, make the contract")
    expect(page.locator("#quote-title .badge")).to_have_text(walk.said("Accepted"))
    walk.fits(page)
    walk.go(page, "/deals/board")
    card = page.locator(".deal-card").first
    card.locator("summary").click()
    card.locator("select").select_option("won")
    card.locator("form button").click()
    expect(page.locator(".deal-card")).to_have_count(0)
    world.settle()
    walk.go(page, customer)
    timeline = page.locator("#timeline")
    for text in (
        f"{walk.said('Deal')} {told.company}: {walk.said('Won')}",
        *(f": {walk.said(each)}" for each in ("Approved", "Sent", "Accepted")),
    ):
        expect(timeline).to_contain_text(text)
    return timeline.locator("a[href^='/records/contract/']").get_attribute("href") or ""


def ana_plans_and_receives_money(walk: Walk, told: Told, page: Page, contract: str) -> None:
    walk.go(page, contract)
    for number, (days, share) in enumerate(((5, "40 %"), (20, ""))):
        page.locator(f"#due-{number}").fill((TODAY + timedelta(days=days)).isoformat())
        page.locator(f"#share-{number}").fill(share)
    walk.press(page, "Save the plan")
    expect(page.locator("#payments tbody tr")).to_have_count(2)
    page.locator("#payments").get_by_text(walk.said("Money came in"), exact=True).click()
    page.locator("#received").fill("320")
    walk.press(page, "Note it")
    expect(page.locator("#payments tbody tr").first).to_contain_text(walk.said("paid"))
    walk.fits(page)


# ------------------------------------------------------------------------------------------------ afterwards


def ana_solves_a_ticket(walk: Walk, told: Told, page: Page, customer: str) -> None:
    walk.go(page, customer)
    page.locator("a[href*='/tickets/new']").click()
    walk.fits(page)
    page.locator("#contact").fill(told.person)
    page.locator("#subject").fill(told.trouble)
    page.locator("#description").fill(told.trouble)
    walk.press(page, "Open the ticket")
    page.wait_for_url(re.compile(r"/tickets/\d+$"))
    page.locator("#text").fill(told.answer)
    page.locator("#status-after").select_option("solved")
    walk.press(page, "Send")
    expect(page.locator("#talk")).to_contain_text(told.answer)
    walk.fits(page)
    page.locator("#status").select_option("closed")
    page.locator(".ticket-set button").first.click()
    expect(page.locator("h1 .badge")).to_have_text(walk.said("Closed"))


def the_customer_is_not_content(walk: Walk, world: World, page: Page) -> None:
    """By the link of the mail in which they are asked."""
    link = token_of(world.settings.home_folder, world.find(select(Ticket.id)))
    walk.go(page, f"/satisfaction/{link}")
    page.locator("label[for=mark-2]").click()
    walk.press(page, "Send")
    expect(page.locator("h1")).to_have_text(walk.said("Thank you"))
    world.settle()


def ana_is_warned(walk: Walk, world: World, told: Told, page: Page, customer: str) -> None:
    """She takes it in hand, and a rule gave her a task."""
    walk.go(page, "/alerts")
    row = page.locator("tr.alert-row")
    expect(row).to_contain_text(told.company)
    expect(row).to_contain_text("60%")
    walk.fits(page)
    walk.press(row, "In hand")
    expect(page.locator("tr.alert-row.is-acknowledged")).to_be_visible()
    world.settle()
    walk.go(page, customer)
    timeline = page.locator("#timeline")
    warned = walk.said("Contract ends soon, renewal in doubt")
    for did in ("Warning", "In hand"):
        expect(timeline).to_contain_text(f"{warned} · {walk.said(did)}")
    task = {"en": "Talk to this customer: they may leave", "zh": "客户有流失风险 请尽快联系"}
    expect(page.locator(".steps")).to_contain_text(task[walk.language])


def the_renewal_begins_by_rule(walk: Walk, world: World, page: Page) -> None:
    """An administrator switches on the rule for contracts that end within thirty days."""
    walk.go(page, "/admin/automation")
    row = page.locator("tr").filter(has_text=NAMED["contract_end"][walk.language])
    row.get_by_role("button", name=walk.said("Turn on")).click()
    expect(row.locator(".text-bg-success")).to_be_visible()
    world.clock.advance(timedelta(minutes=10))
    world.settle()


def ana_renews(walk: Walk, world: World, page: Page, contract: str) -> None:
    walk.go(page, contract)
    expect(page.get_by_role("link", name=walk.said("Deal of the renewal"))).to_be_visible()
    page.locator("#payments").get_by_text(walk.said("Renew"), exact=True).click()
    walk.press(page, "Renewed: make the next contract")
    page.wait_for_url(lambda url: "/records/contract/" in url and not url.endswith(contract))
    walk.fits(page)
    world.settle()


def the_customers_timeline_tells_it_all(walk: Walk, told: Told, page: Page, customer: str) -> None:
    timeline = whole_timeline(walk, page, customer)
    said = walk.said
    for text in (
        *(told.wish, told.call, told.answer, told.trouble),
        f"{said('Lead')}: {said('Owner')}: Ana",
        said("Score as a lead"),
        said("Converted"),
        *(f": {said(each)}" for each in ("Waits for approval", "Approved", "Sent", "Accepted")),
        f"{said('Deal')} {told.company}: {said('Won')}",
        said("Order"),
        said("Payment received: %(amount)s") % {"amount": told.received},
        f": Spring · {said('has answered')}",
        f"{told.trouble}: {said('Solved')}",
        said("satisfaction %(mark)s of 5") % {"mark": 2},
        f"{said('Contract ends soon, renewal in doubt')} · {said('In hand')}",
        f"{said('Contract ends soon, renewal in doubt')} · {said('Over')}",
        {"en": "Renewal", "zh": "续约"}[walk.language],
        f": {said('Renewed')}",
    ):
        expect(timeline).to_contain_text(text)
    expect(timeline.locator("a[href^='/records/contract/']").nth(1)).to_be_visible()


def the_reports_count_it(walk: Walk, told: Told, page: Page) -> None:
    """Each report shows what the walk left, and no more; so does the campaign that brought the lead."""
    month, quarter = TODAY.strftime("%Y-%m"), "2026-Q1"
    for ready, row, figures in (
        ("leads", walk.said("Web form"), ["1", "1"]),
        ("follow_ups", "Ana", ["1", "1"]),
        ("people", "Ana", ["1", "100.0%", told.won]),
        ("payments", month, [told.received]),
        ("contracts", quarter, [told.signed, "2"]),
        ("service", month, ["1", "1"]),
    ):
        walk.go(page, f"/reports/show?ready={ready}")
        cells = page.locator("main table").first.locator("tbody tr").filter(has_text=row).locator("td")
        shown = [text.split("\n")[0] for text in cells.all_inner_texts()]
        assert shown[: len(figures)] == figures, (ready, shown)
    walk.go(page, "/campaigns/1")
    expect(page.locator("main")).to_contain_text(told.received)


def whole_timeline(walk: Walk, page: Page, path: str) -> Any:
    """Open the page of a record with all that ever happened with it."""
    walk.go(page, path)
    timeline = page.locator("#timeline")
    older = timeline.locator("[data-older]")
    while older.count():
        before = timeline.locator("ol.timeline > li").count()
        older.click()
        expect(timeline.locator("ol.timeline > li").nth(before)).to_be_visible()
    return timeline
