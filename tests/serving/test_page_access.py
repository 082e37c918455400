"""Who gets what by the pages: every page is in the table below, and everybody tries it on everybody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.changes import Change
from crm_core.store import Store
from tests.serving.conftest import logged_in
from tests.serving.page_world import MARK, filled, open_world, page_rules
from tests.serving.rights import ADMIN, EVERYBODY, LEADERS, PROMOTERS, SEEN, WRITERS
from tests.serving.test_access import World

MINE: Final[Mapping[str, frozenset[str]]] = {
    "Ana": frozenset({"own"}),
    "Mara": frozenset(),
    "Dana": frozenset(),
    "Adam": frozenset(),
}
"""What is one's own and nobody else's: views, segments, work on many rows, logins, keys."""

NOBODY: Final = frozenset[str]()
"""Who gets what is only for those with a link from a mail."""

WHOSE_OF: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    **SEEN,
    **dict.fromkeys(("view", "segment", "work", "own key"), MINE),
    **dict.fromkeys(("form", "form_number", "submission"), dict.fromkeys(MINE, frozenset({"own"}))),
    "mail template": {**MINE, "Adam": frozenset({"own"})},
    "import": {**MINE, "Adam": frozenset({"own", "team", "other"})},
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """Who may open a page or send a form, and what it may be about; nothing: it is about no record."""

    who: frozenset[str] = EVERYBODY
    about: tuple[str, ...] = ()


_OWNED = ("lead", "deal", "account", "contact")
_PLAIN = ("quote", "order", "contract", "payment", "activity", "comment", "attachment")
_ANY = (*_OWNED, *_PLAIN)
_SCORED = ("lead", "deal", "account")
_WRITTEN_ON = (*_OWNED, "ticket")
_TAGGED = (*_OWNED, "quote", "order", "contract", "payment", "ticket")

PAGES: Final[Mapping[str, Page]] = {
    **dict.fromkeys(("web.start", "entry.show_login", "entry.log_in", "entry.choose_language"), Page()),
    **dict.fromkeys(("entry.log_out", "entry.log_out_everywhere"), Page()),
    **dict.fromkeys(
        ("account.show_account", "account.choose_keys", "account.make_key", "account.end_login"), Page()
    ),
    **dict.fromkeys(("account.change_password", "account.save_profile"), Page()),
    "account.revoke_key": Page(about=("own key",)),
    "alerts_pages.list_all": Page(),
    "alerts_pages.past": Page(),
    "alerts_pages.choose_mail": Page(),
    "alerts_pages.act": Page(who=WRITERS, about=("deal alert", "account alert")),
    "alerts_pages.suggest": Page(about=("deal alert", "account alert")),
    **{
        f"{name}_pages.{what}": Page(about=(about,), who=who)
        for name, about in (("leads", "lead"), ("deals", "deal"), ("customers", "account"))
        for what, who in (
            ("show", EVERYBODY),
            ("show_score", EVERYBODY),
            ("log", WRITERS),
            ("opt_out", WRITERS),
        )
    },
    **{f"{name}_pages.list_records": Page() for name in ("leads", "deals", "customers")},
    "leads_pages.show_new": Page(who=WRITERS),
    "leads_pages.create": Page(who=WRITERS),
    **{
        f"leads_pages.{name}": Page(who=WRITERS, about=("lead",))
        for name in ("convert", "disqualify", "reopen")
    },
    "deals_pages.move": Page(who=WRITERS, about=("deal",)),
    "board_pages.show": Page(),
    "board_pages.show_card": Page(about=("deal",)),
    "board_pages.move": Page(who=WRITERS, about=("deal",)),
    "record_pages.list_contacts": Page(),
    "record_pages.show_contact": Page(about=("contact",)),
    "record_pages.list_records": Page(),
    "record_pages.show": Page(about=_PLAIN),  # of the others it only says where their pages are
    "record_pages.show_timeline": Page(about=_OWNED),
    "record_pages.show_around": Page(about=_OWNED),
    "record_pages.show_suggestions": Page(about=_OWNED),
    "record_pages.show_causes": Page(about=_SCORED),
    "record_pages.show_edit": Page(who=WRITERS, about=_OWNED),
    "record_pages.edit": Page(who=WRITERS, about=_ANY),
    "record_pages.ask_to_delete": Page(who=WRITERS, about=_OWNED),
    "record_pages.delete": Page(who=WRITERS, about=_ANY),
    "record_pages.comment": Page(who=WRITERS, about=_OWNED),
    "record_pages.log": Page(who=WRITERS, about=_OWNED),
    "record_pages.mark_done": Page(who=WRITERS, about=("activity",)),
    "record_pages.list_choices": Page(),
    "record_pages.list_people": Page(),
    "file_pages.put_file": Page(who=WRITERS, about=_ANY),
    "file_pages.save_file": Page(about=("attachment",)),
    **{f"selling_pages.{name}": Page() for name in ("list_approvals", "show_overdue")},
    "selling_pages.decide": Page(who=frozenset()),  # of one that there is not: who may is looked at elsewhere
    "selling_pages.begin_quote": Page(who=WRITERS, about=("deal", "account")),
    "selling_pages.show_money": Page(about=("deal", "account")),
    "selling_pages.print_quote": Page(about=("quote",)),
    **{
        f"selling_pages.{name}": Page(who=WRITERS, about=("quote",))
        for name in ("add_line", "change_line", "act_on_quote")
    },
    **{
        f"selling_pages.{name}": Page(who=WRITERS, about=("contract", "order"))
        for name in ("plan", "receive")
    },
    "selling_pages.show_checklist": Page(about=("deal",)),
    "selling_pages.tick": Page(who=WRITERS, about=("deal",)),
    **{f"selling_pages.{name}": Page(who=WRITERS, about=_OWNED) for name in ("show_meeting", "log_meeting")},
    "selling_pages.sign": Page(who=WRITERS, about=("order",)),
    "selling_pages.act_on_contract": Page(who=WRITERS, about=("contract",)),
    **dict.fromkeys(("finding_pages.search", "finding_pages.search_quickly"), Page()),
    "finding_pages.list_duplicates": Page(),
    **dict.fromkeys(("finding_pages.merge", "finding_pages.mark_distinct"), Page(who=WRITERS)),
    **{f"forecast_pages.{name}": Page() for name in ("show", "make", "making")},
    **{f"funnel_pages.{name}": Page() for name in ("show", "export", "behind")},
    **{f"team_pages.{name}": Page() for name in ("show", "show_unusual", "export")},
    **{
        f"report_pages.{name}": Page()
        for name in ("show_gallery", "show", "save", "show_retention", "save_retention")
    },
    **{f"report_pages.{name}": Page() for name in ("save_file", "behind")},
    **{f"report_pages.{name}": Page(about=("report",)) for name in ("show_saved", "delete", "send", "stop")},
    "profile_pages.show": Page(about=("account",)),
    "team_pages.save_target": Page(who=LEADERS),
    "team_pages.split": Page(who=frozenset()),  # of one that there is not: who may is looked at elsewhere
    **{f"imports.{name}": Page(who=WRITERS) for name in ("show_start", "upload")},
    **{f"imports.{name}": Page(about=("import",)) for name in ("show", "show_progress", "download_refused")},
    **{f"imports.{name}": Page(who=WRITERS, about=("import",)) for name in ("choose", "run")},
    **{f"list_work.{name}": Page(about=("work",)) for name in ("show", "show_progress", "download")},
    **{f"lists.{name}": Page() for name in ("show_segments", "keep", "choose_first", "do_with_many")},
    "lists.end": Page(about=("view", "segment")),
    "record_tags.show_tags": Page(about=_TAGGED),
    "record_tags.change_tags": Page(who=WRITERS, about=_TAGGED),
    **{f"notifications.{name}": Page() for name in ("list_all", "read")},
    **{
        f"campaign_pages.{name}": Page()
        for name in ("list_all", "export", "attribution", "export_attribution", "quality")
    },
    "campaign_pages.create": Page(who=LEADERS),
    "campaign_pages.show": Page(about=("campaign",)),
    **{f"campaign_pages.{name}": Page(who=LEADERS, about=("campaign",)) for name in ("add", "end")},
    **{f"form_pages.{name}": Page(who=LEADERS) for name in ("list_all", "show_new", "create", "list_held")},
    **{f"form_pages.{name}": Page(who=LEADERS, about=("form_number",)) for name in ("show", "change")},
    "form_pages.decide": Page(who=LEADERS, about=("submission",)),
    **{f"public_forms.{name}": Page(about=("form",)) for name in ("show", "give_sheet", "send")},
    **{f"ticket_pages.{name}": Page() for name in ("list_records", "give_many")},
    **{f"ticket_pages.{name}": Page(who=WRITERS) for name in ("show_new", "create")},
    "ticket_pages.show": Page(about=("ticket",)),
    **{
        f"ticket_pages.{name}": Page(who=WRITERS, about=("ticket",)) for name in ("send_answer", "set_fields")
    },
    **{f"ticket_pages.{name}": Page(who=WRITERS, about=("ticket",)) for name in ("merge_into", "judge")},
    "article_pages.list_records": Page(),
    "article_pages.show": Page(about=("article",)),
    **{f"article_pages.{name}": Page(who=WRITERS) for name in ("show_new", "create")},
    "article_pages.show_edit": Page(who=WRITERS, about=("article",)),
    **{
        f"article_pages.{name}": Page(who=WRITERS, about=("article",)) for name in ("edit", "restore_version")
    },
    **{f"satisfaction_pages.{name}": Page(who=NOBODY) for name in ("show", "rate")},
    "customers_pages.take_feedback": Page(who=WRITERS, about=("account",)),
    "account.save_absence": Page(),
    **{f"intake_pages.{name}": Page(who=who) for name, who in (("show", EVERYBODY), ("upload", WRITERS))},
    "intake_pages.settle": Page(who=WRITERS, about=("intake item",)),
    **{f"mail_pages.{name}": Page(who=WRITERS, about=_WRITTEN_ON) for name in ("show_letter", "send")},
    "mail_pages.start": Page(who=WRITERS, about=("lead", "contact")),
    **{f"mail_pages.{name}": Page() for name in ("show_templates", "show_sequences", "show_calendar")},
    "mail_pages.save": Page(who=WRITERS),
    **{f"mail_pages.{name}": Page(about=("mail template",)) for name in ("show_template", "change")},
    "mail_pages.make_sequence": Page(who=LEADERS),
    "mail_pages.show_sequence": Page(about=("mail sequence",)),
    "mail_pages.change_sequence": Page(who=LEADERS, about=("mail sequence",)),
    "mail_pages.stop": Page(who=WRITERS, about=("mail sequence",)),
    **{f"mail_pages.{name}": Page() for name in ("ask_to_unsubscribe", "do_unsubscribe")},
    **{f"mail_pages.{name}": Page() for name in ("change_calendar", "give_calendar")},
    "today_pages.show": Page(),
    "today_pages.choose_capacity": Page(),
    **{f"today_pages.{name}": Page(about=_SCORED) for name in ("show_record", "show_row")},
    **{f"today_pages.{name}": Page(who=WRITERS, about=_SCORED) for name in ("log", "plan", "finish_step")},
    "today_pages.object_to": Page(about=_SCORED),
}
"""All pages but those of models and of administrators, which are theirs as a whole."""

PERHAPS_EMPTY: Final = {
    "models_pages.confirm_promotion",
    "models_pages.confirm_rollback",
    "list_work.download",
    "mail_pages.give_calendar",
}
"""Pages of what there may not be yet, for whoever may see it: no version to choose, no file."""

WHOLE: Final = {"models_pages": PROMOTERS, "admin_pages": ADMIN}


def page_of(endpoint: str) -> Page:
    """Return who may open a page."""
    blueprint = endpoint.partition(".")[0]
    return Page(who=WHOLE[blueprint]) if blueprint in WHOLE else PAGES[endpoint]


@pytest.fixture(scope="module")
def opened(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[tuple[World, Flask, Store]]:
    yield from open_world(empty_database, tmp_path_factory.mktemp("pages"), password_hash)


def browsers(opened: tuple[World, Flask, Store]) -> dict[str, FlaskClient]:
    world, app, _ = opened
    return {name: logged_in(app, world.cast[name]) for name in sorted(EVERYBODY)}


def test_every_page_is_in_the_table(opened: tuple[World, Flask, Store]) -> None:
    pages = {rule.endpoint for method in ("GET", "POST") for rule in page_rules(opened[1], method)}
    assert {each for each in pages if each.partition(".")[0] not in WHOLE} == set(PAGES)


def test_a_page_shows_what_somebody_may_see_and_nothing_else(opened: tuple[World, Flask, Store]) -> None:
    world, app, _ = opened
    wrong = []
    for name, client in browsers(opened).items():
        for rule in page_rules(app, "GET"):
            page = page_of(rule.endpoint)
            for about in page.about or ("",):
                for whose in world.ids.get(about, ("own",)):
                    seen = not about or whose in WHOSE_OF[about][name]
                    status = client.get(filled(world, rule, about, whose)).status_code
                    if status == 404 and rule.endpoint in PERHAPS_EMPTY:
                        continue
                    if status >= 500 or (not seen or name not in page.who) != (status in {403, 404}):
                        wrong.append((name, rule.rule, about, whose, status))
    assert not wrong, "\n".join(map(str, wrong))


def test_a_form_does_nothing_to_what_somebody_may_not_see_or_change(
    opened: tuple[World, Flask, Store],
) -> None:
    world, app, store = opened
    before, wrong = newest_change(store), []
    for name, client in browsers(opened).items():
        for rule in page_rules(app, "POST"):
            page = page_of(rule.endpoint)
            for about in page.about or ("",):
                for whose in world.ids.get(about, ("own",)):
                    seen = not about or whose in WHOSE_OF[about][name]
                    if seen and name in page.who:
                        continue
                    path = filled(world, rule, about, whose)
                    status = client.post(path, data=FORM).status_code
                    if status not in {403, 404, 422}:  # 422: it was not even looked for
                        wrong.append((name, path, about, whose, status))
    assert not wrong, "\n".join(map(str, wrong))
    assert newest_change(store) == before


FORM = {
    "version": "1",
    "kind": "call",
    "subject": "x",
    "body": "x",
    "name": "x",
    "stage": "needs",
    "sure": "yes",
}


def newest_change(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.max(Change.id))) or 0


@pytest.mark.parametrize("name", ["Ana", "Mara"])
def test_no_page_names_what_is_of_another_team(opened: tuple[World, Flask, Store], name: str) -> None:
    world, app, _ = opened
    client = logged_in(app, world.cast[name])
    adam = logged_in(app, world.cast["Adam"])
    asked = {"q": MARK[:6], "status": "all", "state": "all", "type": "lead", "by": "month", "step": ""}
    told = []
    for rule in page_rules(app, "GET"):
        if rule.arguments - {"record_type"} or rule.endpoint.startswith(("admin", "models", "entry")):
            continue
        for record_type in ("lead", "deal", "account", "contact", "ticket"):
            path = filled(world, rule, record_type, "own")
            answer = client.get(path, query_string=asked)
            assert answer.status_code < 500
            if f"{MARK} " in answer.text:
                told.append(path)
            if "record_type" not in rule.arguments:
                break
    assert not told
    assert f"{MARK} lead" in adam.get("/leads", query_string=asked).text, "they are there to be found"


def test_a_tag_on_what_somebody_does_not_see_is_refused(opened: tuple[World, Flask, Store]) -> None:
    world, app, store = opened
    before = newest_change(store)
    client = logged_in(app, world.cast["Ana"])
    client.post(f"/lists/lead/{world.ids['lead']['other']}/tags", data={"word": "mine"})
    assert newest_change(store) == before
