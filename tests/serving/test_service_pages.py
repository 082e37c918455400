"""The pages of tickets and articles: what they show and refuse, and what comes of it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from scipy import stats
from sqlalchemy import event, select, update

from crm_core.access import FieldRight, Reader
from crm_core.articles import uses_of
from crm_core.clock import FixedClock
from crm_core.jobs import Job
from crm_core.messages import Message
from crm_core.notifications import Notification
from crm_core.records import Article, Ticket, User
from crm_core.rights import set_field_right
from crm_core.service_desk import list_queues, target_of
from crm_core.store import Store
from crm_core.ticket_clocks import TicketClock, change_ticket
from crm_core.tickets import open_ticket
from crm_core.working_time import Absence, WorkingTime, working_time
from serving.settings import Settings
from serving.ticket_work import TicketWork, ticket_of, token_of
from serving.tickets import TicketQuestion, mean_of, read_figures, read_tickets, student_t
from serving.web.admin.working_time import read_hours
from serving.web.markdown import plain_text, to_html
from tests.factories import make_account, make_contact
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.served import Served, serve_some

HOUR = timedelta(hours=1)


@pytest.fixture
def served(store: Store, cast: Cast, settings: Settings) -> Served:
    """Ana's service desk, with three tickets of one customer."""
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        make_contact(transaction, account_id=account, owner_id=cast["Ana"].id)
    return serve_some(store, cast["Ana"].id, settings)


def post(app: Flask, user: User, path: str, **data: object) -> tuple[int, str, str]:
    """Send a form; return the status, the text, and what the next page says."""
    client = logged_in(app, user)
    token = csrf_of(client.get("/account").text)
    answer = client.post(path, data={"csrf_token": token, **data})
    after = client.get(answer.location).text if answer.status_code == 302 else ""
    return answer.status_code, answer.text, after


def test_a_ticket_shows_the_conversation_and_what_helps(
    app: Flask, store: Store, cast: Cast, served: Served
) -> None:
    page = logged_in(app, cast["Ana"]).get(f"/tickets/{served.ticket}").text
    order = ["since Monday the seal", "do you see the leak", "Known from last year", "Answer the customer"]
    assert [page.index(each) for each in order[:2]] == sorted(page.index(each) for each in order[:2])
    for said in (*order, "note for colleagues", "A seal leaks", "Other tickets", "Thank you (English)"):
        assert said in page
    assert page.index("A seal leaks") < page.index("Other tickets")
    assert "Seals dry out" in page
    with store.transaction() as transaction:
        set_field_right(transaction.session, "rep", "article", "body", read=False, write=False)
    assert "Seals dry out" not in logged_in(app, cast["Ana"]).get(f"/tickets/{served.ticket}").text


@pytest.mark.parametrize(("field", "query"), [("priority", "priority=high"), ("queue", "queue=help")])
def test_nobody_finds_tickets_by_a_field_that_is_hidden(
    app: Flask, store: Store, cast: Cast, served: Served, field: str, query: str
) -> None:
    ana = logged_in(app, cast["Ana"])
    assert ana.get(f"/tickets?view=all&{query}").status_code == 200
    with store.transaction() as transaction:
        set_field_right(transaction.session, "rep", "ticket", field, read=False, write=False)
    assert ana.get(f"/tickets?view=all&{query}").status_code == 403
    assert ana.get("/tickets?view=all").status_code == 200


def test_an_answer_is_noted_and_sent_only_where_it_can_be(
    app: Flask, store: Store, cast: Cast, served: Served, settings: Settings
) -> None:
    path = f"/tickets/{served.ticket}/answer"
    status, text, _ = post(app, cast["Ana"], path, text="  ")
    assert (status, "An answer needs a text." in text) == (422, True)
    _, _, after = post(app, cast["Ana"], path, text="Try this.", status="pending")
    assert "It is not sent: mail is not set up." in after
    on = settings.model_copy(update={"smtp_host": "mail.example.com", "mail_from": "crm@example.com"})
    app.extensions["crm"] = replace(app.extensions["crm"], settings=on)
    _, _, after = post(app, cast["Ana"], path, text="And this.", status="solved", article=served.article)
    assert "The answer is on its way." in after
    with store.reading() as session:
        sent = session.scalars(select(Message).where(Message.direction == "outbound")).one()
        job = session.scalars(select(Job).where(Job.kind == "mail")).one()
        assert (sent.about_type, sent.about_id, sent.subject) == (
            *("ticket", served.ticket),
            f"[#{served.ticket}] The pump leaks again",
        )
        assert (job.payload["to"], job.payload["text"]) == ("li.wei@example.com", "And this.")
        assert session.get_one(Ticket, served.ticket).status == "solved"
        assert uses_of(session, [served.article])[served.article].inserted == 1


def test_templates_and_articles_are_put_into_what_is_being_written(
    app: Flask, cast: Cast, served: Served
) -> None:
    path = f"/tickets/{served.ticket}/answer"
    _, page, _ = post(app, cast["Ana"], path, text="Hi", insert=f"article:{served.article}")
    assert "Hi\n\nWhy\n\nSeals dry out after two years." in page
    assert f'name="article" value="{served.article}"' in page
    _, page, _ = post(app, cast["Ana"], path, text="", insert="template", template="1")
    assert f"Hello Li,\n\nthank you for ticket {served.ticket}." in page
    assert post(app, cast["Ana"], path, text="", insert="article:999")[0] == 404


def test_where_a_ticket_stands_is_set_once_seen(app: Flask, store: Store, cast: Cast, served: Served) -> None:
    with store.reading() as session:
        version = session.get_one(Ticket, served.ticket).version
    path = f"/tickets/{served.ticket}/set"
    form = {"status": "pending", "priority": "urgent", "queue": "help", "owner_id": cast["Ana"].id}
    assert post(app, cast["Ana"], path, version=version, **form)[0] == 302
    status, page, _ = post(app, cast["Ana"], path, version=version, **form)
    assert (status, "Somebody changed this ticket meanwhile" in page) == (409, True)
    with store.reading() as session:
        found = session.get_one(Ticket, served.ticket)
        assert (found.status, found.priority, found.paused_at) == ("pending", "urgent", store.clock.now())
    assert post(app, cast["Ana"], path, status="lost")[0] == 422
    assert post(app, cast["Ben"], path, status="open")[0] == 404


def test_many_are_given_at_once_or_none(app: Flask, store: Store, cast: Cast, served: Served) -> None:
    ids = [served.ticket, served.ticket + 1]
    assert post(app, cast["Ana"], "/tickets/many", to="next")[0] == 422
    status, page, _ = post(app, cast["Mara"], "/tickets/many", id=[*ids, served.ticket + 2], to="next")
    assert (status, "a queue, whose people take turns" in page) == (422, True)
    _, _, after = post(app, cast["Mara"], "/tickets/many", id=ids, to=cast["Ben"].id)
    assert "2 tickets are given." in after
    with store.reading() as session:
        owners = set(session.scalars(select(Ticket.owner_id).where(Ticket.id.in_(ids))))
        assert owners == {cast["Ben"].id}
        told = session.scalars(select(Notification.user_id).where(Notification.kind == "assigned"))
        assert list(told) == [cast["Ben"].id] * 2


def test_lists_are_narrowed_and_each_view_counts_what_it_shows(
    app: Flask, store: Store, cast: Cast, served: Served, clock: FixedClock
) -> None:
    clock.advance(3 * HOUR)
    with store.reading() as session:
        reader = Reader(session, session.get_one(User, cast["Ana"].id))
        for view in ("mine", "queues", "unassigned", "soon", "missed", "waiting", "running"):
            asked = TicketQuestion(now=clock.now(), hours=WorkingTime(), view=view)
            found = read_tickets(reader, asked)
            assert len(found.rows) == found.counts[view], view
    client = logged_in(app, cast["Ana"])
    assert "发票抬头需要修改" in client.get("/tickets?view=missed").text
    assert "Where is our delivery?" not in client.get("/tickets?view=missed&q=发票").text
    assert f"#{served.ticket}" in client.get(f"/tickets?view=all&q=%23{served.ticket}").text
    assert "No tickets here" in client.get("/tickets?view=waiting").text
    assert f"/tickets/{served.ticket}" not in logged_in(app, cast["Otto"]).get("/tickets?view=all").text


def test_merging_on_the_page_leads_to_the_one_that_stays(app: Flask, cast: Cast, served: Served) -> None:
    into = served.ticket + 1
    _, _, after = post(app, cast["Ana"], f"/tickets/{served.ticket}/merge", into=into)
    assert "At the seal." in after
    page = logged_in(app, cast["Ana"]).get(f"/tickets/{served.ticket}").text
    assert "This ticket is a part of another one:" in page
    assert "Answer the customer" not in page
    assert post(app, cast["Ana"], f"/tickets/{served.ticket}/answer", text="x")[0] == 409


def test_a_new_ticket_needs_a_customer_that_one_sees(
    app: Flask, store: Store, cast: Cast, served: Served
) -> None:
    form = {"subject": "New", "priority": "high", "contact": "Li Wei"}
    status, page, _ = post(app, cast["Ana"], "/tickets/new", account="Nobody Ltd", **form)
    assert (status, 'value="New"' in page) == (422, True)
    assert post(app, cast["Ana"], "/tickets/new", account="Hill & Sons", **form)[0] == 302
    with store.reading() as session:
        made = session.scalars(select(Ticket).order_by(Ticket.id.desc()).limit(1)).one()
        assert (made.subject, made.owner_id, made.first_due_at) == (
            *("New", cast["Ana"].id),
            store.clock.now() + 2 * HOUR,
        )


def test_a_hidden_field_is_on_no_page_of_a_ticket(
    app: Flask, store: Store, cast: Cast, served: Served
) -> None:
    with store.transaction() as transaction:
        fields = (
            ("ticket", "subject"),
            ("ticket", "description"),
            ("activity", "body"),
            ("activity", "subject"),
        )
        for record_type, field in fields:
            hidden = {"role": "rep", "record_type": record_type, "read": False, "write": False}
            transaction.session.add(FieldRight(field=field, **hidden))
    client = logged_in(app, cast["Ana"])
    for path in ("/tickets?view=all", f"/tickets/{served.ticket}"):
        page = client.get(path).text
        assert "pump leaks" not in page
        assert "do you see" not in page
    found = client.get("/tickets?view=all&q=pump").text  # nor is it told by what finds the ticket
    assert f"/tickets/{served.ticket}" not in found


# ---------------------------------------------------------------- satisfaction


def test_a_customer_is_asked_once_and_answers_once(
    app: Flask, store: Store, cast: Cast, served: Served, settings: Settings, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        change_ticket(transaction, transaction.get(Ticket, served.ticket), {"status": "closed"})
    on = settings.model_copy(
        update={"smtp_host": "m", "mail_from": "crm@example.com", "public_url": "https://crm.example.com"}
    )
    for _ in range(2):
        TicketWork(on, store).run_until_done()
    with store.reading() as session:
        asked = session.scalars(select(Job.payload).where(Job.kind == "mail")).all()
        assert [each["to"] for each in asked] == ["li.wei@example.com"]
        token = token_of(settings.home_folder, served.ticket)
        assert f"https://crm.example.com/satisfaction/{token}" in asked[0]["text"]
        assert session.get_one(Ticket, served.ticket).status == "closed"
    nobody = app.test_client()
    page = nobody.get(f"/satisfaction/{token}").text
    form = {"csrf_token": csrf_of(page), "comment": "Slow"}
    assert nobody.post(f"/satisfaction/{token}", data=form).status_code == 422
    assert "Thank you" in nobody.post(f"/satisfaction/{token}", data={**form, "mark": "2"}).text
    assert "rated before" in nobody.post(f"/satisfaction/{token}", data={**form, "mark": "5"}).text
    assert "rated before" in nobody.get(f"/satisfaction/{token}").text
    with store.reading() as session:
        found = session.get_one(Ticket, served.ticket)
        assert (found.satisfaction, found.satisfaction_comment) == (2, "Slow")
    chinese = app.test_client().get(f"/satisfaction/{token}", headers={"Accept-Language": "zh-CN"}).text
    assert "已经评价过" in chinese


def test_one_ticket_that_cannot_be_worked_on_holds_up_no_other(
    store: Store, settings: Settings, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction).id
        odd, whole = (open_ticket(transaction, Ticket(account_id=account, subject=text)).id for text in "ab")
        transaction.session.execute(update(TicketClock).where(TicketClock.ticket_id == odd).values(done=5))
    clock.advance(timedelta(days=30))
    with pytest.raises(TypeError):  # it is told
        TicketWork(settings, store).run_once()
    with store.reading() as session:
        assert session.get_one(Ticket, whole).first_breached_at is not None


def test_a_link_that_we_did_not_sign_is_worth_nothing(app: Flask, served: Served, settings: Settings) -> None:
    home, token = settings.home_folder, served.token
    assert ticket_of(home, token) == served.ticket
    forged = f"{served.ticket + 1}.{token.partition('.')[2]}"
    for wrong in (forged, token[:-1] + ("A" if token[-1] != "A" else "B"), "x", f"{served.ticket}."):
        assert ticket_of(home, wrong) is None
        assert app.test_client().get(f"/satisfaction/{wrong}").status_code == 404


def test_guessing_links_is_slowed_down(app: Flask, served: Served) -> None:
    app.extensions["crm"].limits.logins.per_minute = 3
    statuses = [app.test_client().get("/satisfaction/1.x").status_code for _ in range(4)]
    assert statuses == [404, 404, 404, 429]


def test_students_t_and_the_interval_are_those_of_the_books() -> None:
    for freedom in (1, 2, 3, 4, 7, 12, 30, 400):
        assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.002)
    marks = [5, 4, 4, 2, 5, 3]
    found = mean_of(marks)
    low, high = stats.t.interval(0.95, len(marks) - 1, loc=sum(marks) / 6, scale=stats.sem(marks))
    assert found.count == 6
    expected = [23 / 6, low, min(high, 5)]
    assert [found.mean, found.low, found.high] == pytest.approx(expected, rel=0.002)
    assert mean_of([3]).low is None
    assert mean_of([]).mean is None


def test_the_figures_are_those_of_a_plain_count(
    store: Store, cast: Cast, served: Served, settings: Settings, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        for number in range(6):
            ticket = Ticket(
                account_id=transaction.get(Ticket, served.ticket).account_id,
                subject="x",
                priority="urgent",
                occurred_at=transaction.now - number * HOUR,
            )
            open_ticket(transaction, ticket)
            if number % 2:
                change_ticket(transaction, ticket, {"status": "solved"})
    clock.advance(2 * HOUR)
    TicketWork(settings, store).run_until_done()
    with store.reading() as session:
        reader = Reader(session, session.get_one(User, cast["Adam"].id))
        now = clock.now()
        found = read_figures(reader, since=now - timedelta(days=1), until=now)
        rows = session.scalars(select(Ticket).where(Ticket.occurred_at >= now - timedelta(days=1))).all()
    answered = [row for row in rows if row.first_answered_at is not None and row.first_due_at is not None]
    assert (found.opened, found.answered_in_time, found.answered_late) == (
        len(rows),
        sum(row.first_breached_at is None for row in answered),
        sum(row.first_breached_at is not None for row in rows),
    )
    solved = [row for row in rows if row.solved_at is not None and row.solve_due_at is not None]
    assert found.solved_in_time == sum(row.solve_breached_at is None for row in solved)
    assert found.solved_late == sum(row.solve_breached_at is not None for row in rows)
    assert found.answered_late > 0


# ---------------------------------------------------------------- articles


def test_an_article_is_written_changed_and_restored(
    app: Flask, store: Store, cast: Cast, served: Served
) -> None:
    form = {"title": "Filters", "body": "Change **yearly**.", "language": "en", "state": "draft"}
    assert post(app, cast["Ben"], "/articles/new", **{**form, "title": ""})[0] == 422
    _, _, after = post(app, cast["Ben"], "/articles/new", **form)
    assert "<strong>yearly</strong>" in after
    with store.reading() as session:
        article = session.scalars(select(Article).where(Article.title == "Filters")).one()
    path = f"/articles/{article.id}"
    assert post(app, cast["Ana"], f"{path}/edit", version=1, **{**form, "body": "Monthly."})[0] == 302
    status, page, _ = post(app, cast["Ben"], f"{path}/edit", version=1, **{**form, "body": "Never."})
    assert (status, "Monthly." in page, "Never." in page) == (409, True, True)
    old = logged_in(app, cast["Ana"]).get(f"{path}?version=1").text
    assert "Restore this one" in old
    _, _, after = post(app, cast["Ana"], f"{path}/restore", number=1)
    assert "<strong>yearly</strong>" in after
    client = logged_in(app, cast["Dana"])
    assert "Filters" in client.get("/articles?q=yearly").text
    assert client.get(f"{path}/edit").status_code == 403
    assert "Nothing fits" in client.get("/articles?q=nothing+like+this").text


@pytest.mark.parametrize(
    ("text", "there", "not_there"),
    [
        ("# A\n\n**b**", "<h2>A</h2>", "<h1"),
        ("<script>alert(1)</script>", "&lt;script&gt;", "<script"),
        ("[x](javascript:alert(1))", "x", 'href="javascript'),
        ("![p](https://evil.example/p.png)", "p", "<img"),
        ("[x](https://a.example)", 'rel="noopener noreferrer nofollow"', "onclick"),
        ("| a |\n|---|\n| b |", "<td>b</td>", "style"),
        ('<a href="x" onmouseover="y">z</a>', "&lt;a", "<a "),
    ],
)
def test_an_article_can_do_nothing_but_be_read(text: str, there: str, not_there: str) -> None:
    html = to_html(text)
    assert there in html
    assert not_there not in html


def test_an_article_is_put_into_a_mail_without_its_marks() -> None:
    text = "## Why\n\n**Two** *years*, see [list](https://a.example/1).\n\n1. `Close`"
    assert plain_text(text) == "Why\n\nTwo years, see list (https://a.example/1).\n\n1. Close"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("[a](https://a.example/x_(y))", "a (https://a.example/x_(y))"),
        ('[a](https://a.example "b c"), [d](/e)', "a (https://a.example), d (/e)"),
        ("![p](https://a.example/p.png) said", "p said"),
    ],
)
def test_a_link_stands_behind_its_words(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize("beginning", ["[a](", "![", "![a](", "[", "[a](b ", "**a ", "__a ", "*a ", "#\n"])
def test_an_article_of_nothing_but_beginnings_keeps_nobody_waiting(beginning: str) -> None:
    since = time.perf_counter()
    plain_text((beginning * 8_000)[:8_000])
    assert time.perf_counter() - since < 1


# ---------------------------------------------------------------- settings


def test_queues_and_targets_are_set_by_administrators(app: Flask, store: Store, cast: Cast) -> None:
    form = {"key": "Repair", "name": "Repairs", "member": cast["Ana"].id, "round_robin": "yes", "version": 0}
    assert post(app, cast["Mara"], "/admin/service/queues", **form)[0] == 403
    assert post(app, cast["Adam"], "/admin/service/queues", **{**form, "key": "no key"})[0] == 422
    assert post(app, cast["Adam"], "/admin/service/queues", **form)[0] == 302
    assert post(app, cast["Adam"], "/admin/service/queues", **form)[0] == 409
    hours = {"queue": "repair", "urgent-first": "0,5", "urgent-solve": "4"}
    assert post(app, cast["Adam"], "/admin/service/targets", **hours)[0] == 302
    assert post(app, cast["Adam"], "/admin/service/targets", **{**hours, "low-first": "soon"})[0] == 422
    with store.reading() as session:
        (queue,) = list_queues(session)
        assert (queue.key, queue.members, queue.round_robin) == ("repair", [cast["Ana"].id], True)
        target = target_of(session, "repair", "urgent")
        assert (target.first_minutes, target.solve_minutes) == (30, 240)


def test_working_time_is_set_on_a_page(app: Flask, store: Store, cast: Cast) -> None:
    week = {f"day-{day}": "09:00-12:00, 13:00-24:00" if day < 5 else "" for day in range(7)}
    form = {**week, "zone": "Asia/Shanghai", "country": "CN", "version": 0}
    assert post(app, cast["Adam"], "/admin/working-time", **{**form, "day-1": "9 to 5"})[0] == 422
    assert post(app, cast["Adam"], "/admin/working-time", **form)[0] == 302
    assert post(app, cast["Adam"], "/admin/working-time", **form)[0] == 409
    day = {"day": "2026-03-09", "worked": "no", "name": "Outing"}
    assert "Outing" in post(app, cast["Adam"], "/admin/working-time/days", **day)[2]
    with store.reading() as session:
        found = working_time(session, "UTC")
        assert (found.zone.key, found.country, len(found.special)) == ("Asia/Shanghai", "CN", 1)
        assert found.week[0] == read_hours("9:00–12:00；13:00–24:00")
        assert found.week[6] == ()
    assert (
        "Outing"
        not in post(app, cast["Adam"], "/admin/working-time/days", **{**day, "worked": "as usual"})[2]
    )


def test_people_note_when_they_are_away(app: Flask, store: Store, cast: Cast) -> None:
    days = {"first_day": "2026-03-09", "last_day": "2026-03-13"}
    assert post(app, cast["Ana"], "/account/absences", **days)[0] == 302
    assert post(app, cast["Ana"], "/account/absences", **{**days, "last_day": "2026-03-01"})[0] == 422
    path = f"/admin/people/{cast['Ana'].id}/absences"
    assert post(app, cast["Ana"], path, **days)[0] == 403
    with store.reading() as session:
        away = session.scalars(select(Absence.id)).one()
    assert "Mar 9, 2026" in post(app, cast["Adam"], path, **{**days, "last_day": "2026-03-09"})[2]
    assert post(app, cast["Ben"], "/account/absences", remove=away)[0] == 404
    assert post(app, cast["Ana"], "/account/absences", remove=away)[0] == 302


# ---------------------------------------------------------------- the customer, and what it costs


def test_a_customer_shows_tickets_satisfaction_and_what_they_said(
    app: Flask, store: Store, cast: Cast, served: Served
) -> None:
    with store.reading() as session:
        account = session.get_one(Ticket, served.ticket).account_id
    assert post(app, cast["Ana"], f"/customers/{account}/feedback", kind="x", text="Hm")[0] == 422
    _, _, page = post(app, cast["Ana"], f"/customers/{account}/feedback", kind="complaint", text="Too slow")
    for said in ("3 open tickets", "satisfaction 4.0 of 5 (1 answer)", "last 4", "Complaint", "Too slow"):
        assert said in page, said


@pytest.mark.parametrize(
    "path", ["/tickets?view=all", "/tickets/{ticket}", "/articles", "/articles/{article}"]
)
def test_a_page_asks_few_questions(app: Flask, store: Store, cast: Cast, served: Served, path: str) -> None:
    client, told = logged_in(app, cast["Mara"]), list[str]()
    address = path.format(ticket=served.ticket, article=served.article)
    client.get(address)

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            told.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    assert client.get(address).status_code == 200
    event.remove(store.engine, "before_cursor_execute", note)
    assert len(told) <= 12, "\n".join(each[:90] + each[each.find("FROM") :][:60] for each in told)


def test_two_who_look_at_once_tell_once(
    store: Store, served: Served, settings: Settings, clock: FixedClock
) -> None:
    clock.advance(10 * HOUR)
    first, second = TicketWork(settings, store), TicketWork(settings, store)
    with store.reading() as session:
        due = session.scalars(select(TicketClock.ticket_id).where(TicketClock.next_at <= clock.now())).all()
    assert due
    first.run_once()
    second.run_once()
    first.run_until_done()
    with store.reading() as session:
        said = session.execute(select(Notification.user_id, Notification.text, Notification.about_id)).all()
        missed = [each for each in said if each.text and each.text.endswith("missed")]
        assert len(set(missed)) == len(missed) > 0
