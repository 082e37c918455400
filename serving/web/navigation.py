"""The tabs at the top of each page: for whom, where they lead, and which one the reader is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask_babel import lazy_gettext as _

from crm_core.records import Role, User

_EVERYBODY = frozenset(Role)
_OVERSEEING = _EVERYBODY - {Role.REP}
_MODELLING = frozenset({Role.ANALYST, Role.ADMIN})
_ADMINISTERING = frozenset({Role.ADMIN})

KEYS = {
    "/today": "t",
    "/leads": "l",
    "/deals": "d",
    "/customers": "c",
    "/tickets": "s",
    "/forecast": "f",
    "/models": "m",
    "/alerts": "a",
    "/notifications": "n",
}
"""By address, the letter that goes to a page after a `g`."""


@dataclass(frozen=True, kw_only=True)
class Tab:
    """One page of the navigation: `prefix` is how the addresses of everything below it begin."""

    endpoint: str
    prefix: str
    text: object
    roles: frozenset[Role] = _EVERYBODY

    @property
    def key(self) -> str:
        """The letter that goes to it after a `g`; empty if there is none."""
        return KEYS.get(self.prefix, "")

    def holds(self, path: str) -> bool:
        """Say whether an address is that of the page or of one below it."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")


TABS: tuple[Tab, ...] = (
    Tab(endpoint="today_pages.show", prefix="/today", text=_("Today")),
    Tab(endpoint="leads_pages.list_records", prefix="/leads", text=_("Leads")),
    Tab(endpoint="deals_pages.list_records", prefix="/deals", text=_("Deals")),
    Tab(endpoint="customers_pages.list_records", prefix="/customers", text=_("Customers")),
    Tab(endpoint="record_pages.list_contacts", prefix="/contacts", text=_("Contacts")),
    Tab(endpoint="ticket_pages.list_records", prefix="/tickets", text=_("Tickets")),
    Tab(endpoint="intake_pages.show", prefix="/intake", text=_("Mail")),
    Tab(endpoint="forecast_pages.show", prefix="/forecast", text=_("Forecast"), roles=_OVERSEEING),
    Tab(endpoint="funnel_pages.show", prefix="/funnel", text=_("Funnel"), roles=_OVERSEEING),
    Tab(endpoint="campaign_pages.list_all", prefix="/campaigns", text=_("Campaigns"), roles=_OVERSEEING),
    Tab(endpoint="team_pages.show", prefix="/team", text=_("Team"), roles=_OVERSEEING),
    Tab(endpoint="report_pages.show_gallery", prefix="/reports", text=_("Reports")),
    Tab(endpoint="models_pages.list_models", prefix="/models", text=_("Models"), roles=_MODELLING),
    Tab(endpoint="admin_pages.start", prefix="/admin", text=_("Administration"), roles=_ADMINISTERING),
)
"""In the order in which they are shown; alerts have a bell of their own."""


def tabs_of(user: User) -> Sequence[Tab]:
    """Return the tabs that somebody sees."""
    return [tab for tab in TABS if user.role in tab.roles]
