"""What is around every page: tabs, the menu, the keys."""

from __future__ import annotations

import re

from flask import Flask

from crm_core.saved import likes_of, set_keys
from crm_core.store import Store
from serving.web.navigation import TABS
from tests.serving.conftest import Cast, logged_in


def test_the_active_tab_is_that_of_the_address_and_no_other(app: Flask, cast: Cast) -> None:
    page = logged_in(app, cast["Ana"]).get("/deals").text
    desk = page[page.index('class="tabs"') : page.index('role="search"')]
    assert re.findall(r'aria-current="page">([^<]+)<', desk) == ["Deals"]


def test_an_address_that_only_begins_like_a_tab_is_not_below_it() -> None:
    leads = next(tab for tab in TABS if tab.prefix == "/leads")
    assert leads.holds("/leads")
    assert leads.holds("/leads/7")
    assert not leads.holds("/leadership")


def test_no_two_pages_have_the_same_key() -> None:
    keys = [tab.key for tab in TABS if tab.key]
    assert len(set(keys)) == len(keys)


def test_the_menu_holds_the_pages_the_language_and_the_way_out(app: Flask, cast: Cast) -> None:
    page = logged_in(app, cast["Ana"]).get("/leads").text
    menu = page[page.index("<details") : page.index("</details>")]
    for part in ('href="/customers"', 'href="/account"', 'action="/language"', 'action="/logout"'):
        assert part in menu
    assert 'href="/models"' not in menu


def test_who_has_turned_keys_off_has_none_and_nobody_else_notices(
    app: Flask, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        set_keys(transaction.session, cast["Ana"].id, on=False)
    assert 'data-keys="off"' in logged_in(app, cast["Ana"]).get("/leads").text
    assert 'data-keys="off"' not in logged_in(app, cast["Ben"]).get("/leads").text
    with store.reading() as session:
        assert not likes_of(session, cast["Ana"].id).keys


def test_the_keys_that_are_told_lead_to_pages_that_may_be_seen(app: Flask, cast: Cast) -> None:
    told = logged_in(app, cast["Ana"]).get("/leads").text.partition('id="keys-help"')[2]
    assert "<kbd>l</kbd>" in told
    assert "<kbd>m</kbd>" not in told
