"""The page of a record: facts changed in their place, talk, files, what is around, by everybody's rights."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select

from crm_core import recall
from crm_core.access import FieldRight
from crm_core.clock import FixedClock
from crm_core.fields import Choice, FieldKind, Known, declare_field
from crm_core.notifications import list_notifications
from crm_core.personal import erase_person
from crm_core.records import (
    Account,
    Activity,
    Attachment,
    Comment,
    Contact,
    Deal,
    Lead,
)
from crm_core.store import Store
from serving.files import forget_unused, media_type_of, place_of, safe_name
from serving.home import Home
from serving.settings import Settings
from tests.factories import (
    make_account,
    make_activity,
    make_contact,
    make_contract,
    make_deal,
    make_lead,
    make_ticket,
)
from tests.serving.conftest import Cast, csrf_of, logged_in

LogIn = Callable[[str], FlaskClient]


@pytest.fixture
def log_in(app: Flask, cast: Cast) -> LogIn:
    """Browsers of the cast, by name."""
    return lambda name: logged_in(app, cast[name])


@pytest.fixture
def deal(store: Store, cast: Cast) -> int:
    """Ana's deal with Hill & Sons, worth 1,000 euros."""
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id, industry="retail")
        return make_deal(
            transaction,
            owner_id=cast["Ana"].id,
            account_id=account.id,
            name="New shelves",
            amount=Decimal(1000),
            currency="EUR",
        ).id


def token_of(client: FlaskClient, path: str) -> str:
    return csrf_of(client.get(path).text)


def form_of(client: FlaskClient, path: str) -> dict[str, str]:
    """Return what the form of an edit page would send as it is served."""
    text = client.get(path).text
    form = text[text.index('<form id="edit"') :]
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
    typed = re.findall(r'<input class="[^"]*" id="[^"]*" name="([^"]+)"[^>]*? value="([^"]*)"', form)
    return dict(hidden + typed)


def post(client: FlaskClient, path: str, data: dict[str, Any], **more: Any) -> Any:
    return client.post(path, data=data, **more)


def read(store: Store, model: type[Any], record_id: int) -> Any:
    with store.reading() as session:
        return session.get(model, record_id)


# ------------------------------------------------------------------------------------------------ facts


def test_a_fact_is_changed_in_its_place(store: Store, log_in: LogIn, deal: int) -> None:
    client = log_in("Ana")
    form = form_of(client, f"/records/deal/{deal}/edit?field=amount")
    assert (form["amount"], form["currency"], form["field"]) == ("1000", "EUR", "amount")
    answer = post(
        client,
        f"/records/deal/{deal}/edit",
        {**form, "amount": "1,250.50", "currency": "USD"},
        headers={"X-Requested-With": "fetch"},
    )
    assert answer.status_code == 200
    assert "$1,250.50" in answer.text
    found = read(store, Deal, deal)
    assert (found.amount, found.currency) == (Decimal("1250.5"), "USD")


@pytest.mark.parametrize(
    ("field", "typed", "why"),
    [
        ("amount", "a lot", "This is no amount"),
        ("expected_close_on", "soon", "This is no day"),
        ("rep_probability", "120", "This is not between 0 and 100"),
        ("name", "  ", "This cannot be empty"),
        ("account_id", "Nobody & Co", "There is nothing called that"),
        ("currency", "euros", "Expected"),
    ],
)
def test_what_a_field_cannot_hold_is_refused_beside_it(
    store: Store, log_in: LogIn, deal: int, field: str, typed: str, why: str
) -> None:
    client = log_in("Ana")
    form = form_of(client, f"/records/deal/{deal}/edit")
    answer = post(client, f"/records/deal/{deal}/edit", {**form, field: typed})
    assert answer.status_code == 422
    assert why in answer.text
    assert f'aria-describedby="field-{field}-why"' in answer.text
    assert read(store, Deal, deal).version == 1


def test_two_who_change_the_same_fact_are_shown_both_values(
    store: Store, log_in: LogIn, deal: int, cast: Cast
) -> None:
    ana, mara = log_in("Ana"), log_in("Mara")
    hers = form_of(ana, f"/records/deal/{deal}/edit?field=amount")
    theirs = form_of(mara, f"/records/deal/{deal}/edit?field=amount")
    post(mara, f"/records/deal/{deal}/edit", {**theirs, "amount": "2000"})
    answer = post(ana, f"/records/deal/{deal}/edit", {**hers, "amount": "3000"})
    assert answer.status_code == 409
    assert "Mara has changed this meanwhile" in answer.text
    assert "Theirs: €2,000" in answer.text
    assert "Mine: 3000" in answer.text
    assert read(store, Deal, deal).amount == Decimal(2000)
    again = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
    assert post(ana, f"/records/deal/{deal}/edit", {**again, "amount": "3000"}).status_code == 302
    assert read(store, Deal, deal).amount == Decimal(3000)


def test_two_who_change_different_facts_do_not_meet(store: Store, log_in: LogIn, deal: int) -> None:
    ana, mara = log_in("Ana"), log_in("Mara")
    hers = form_of(ana, f"/records/deal/{deal}/edit?field=name")
    theirs = form_of(mara, f"/records/deal/{deal}/edit?field=amount")
    post(mara, f"/records/deal/{deal}/edit", {**theirs, "amount": "2000"})
    assert post(ana, f"/records/deal/{deal}/edit", {**hers, "name": "More"}).status_code == 302
    found = read(store, Deal, deal)
    assert (found.name, found.amount) == ("More", Decimal(2000))


def test_a_record_is_chosen_by_its_name_or_by_its_number(
    store: Store, log_in: LogIn, cast: Cast, deal: int
) -> None:
    with store.transaction() as transaction:
        one = make_account(transaction, owner_id=cast["Ana"].id, name="Müller GmbH").id
        make_account(transaction, owner_id=cast["Otto"].id, name="Müller AG")
        for _ in range(2):
            make_account(transaction, owner_id=cast["Ana"].id, name="Twins")
    client = log_in("Ana")
    path = f"/records/deal/{deal}/edit"

    def choose(text: str) -> Any:
        return post(client, path, {**form_of(client, f"{path}?field=account_id"), "account_id": text})

    assert choose("müller").status_code == 302  # Otto's is none of hers
    assert read(store, Deal, deal).account_id == one
    assert "Which one? Twins #" in choose("Twins").text
    assert choose("anything #999").status_code == 422
    assert client.get("/records/-/choices/account?q=m%C3%BCl").json == [f"Müller GmbH #{one}"]


def test_fields_that_were_declared_are_changed_too(store: Store, log_in: LogIn, deal: int) -> None:
    with store.transaction() as transaction:
        for name, kind in (("go_live", FieldKind.DAY), ("fee", FieldKind.MONEY), ("vip", FieldKind.FLAG)):
            declare_field(
                transaction.session, record_type="deal", name=f"custom.{name}", kind=kind, known=Known.HISTORY
            )
        declare_field(
            transaction.session,
            record_type="deal",
            name="custom.tier",
            kind=FieldKind.CHOICE,
            known=Known.HISTORY,
            choices=[Choice(value="gold", label_en="Gold tier"), Choice(value="tin")],
        )
    client = log_in("Ana")
    form = form_of(client, f"/records/deal/{deal}/edit")
    typed = {
        "custom.go_live": "2026-05-01",
        "custom.fee": "12.5",
        "custom.vip": "yes",
        "custom.tier": "gold",
    }
    assert post(client, f"/records/deal/{deal}/edit", {**form, **typed}).status_code == 302
    day = (date(2026, 5, 1) - date(1970, 1, 1)).days
    assert read(store, Deal, deal).custom == {"go_live": day, "fee": 125_000, "vip": True, "tier": "gold"}
    page = client.get(f"/deals/{deal}").text
    assert "Gold tier" in page
    assert "May 1, 2026" in page


def test_what_may_not_be_written_is_plain_and_what_is_hidden_is_absent(
    store: Store, log_in: LogIn, deal: int
) -> None:
    with store.transaction() as transaction:
        given = {"role": "rep", "record_type": "deal"}
        transaction.session.add(FieldRight(**given, field="amount", read=True, write=False))
        transaction.session.add(FieldRight(**given, field="source", read=False, write=False))
        transaction.update(transaction.get(Deal, deal), {"source": "referral"})
    client = log_in("Ana")
    page = client.get(f"/deals/{deal}").text
    assert "€1,000" in page
    assert 'data-edit="amount"' not in page
    assert 'data-edit="name"' in page
    assert "eferral" not in page
    form = form_of(client, f"/records/deal/{deal}/edit?field=name")
    sneaky = {**form, "field": "amount", "amount": "1"}
    post(client, f"/records/deal/{deal}/edit", sneaky)
    assert read(store, Deal, deal).amount == Decimal(1000)


def test_who_may_not_write_sees_facts_and_no_forms(log_in: LogIn, deal: int) -> None:
    client = log_in("Dana")
    page = client.get(f"/deals/{deal}").text
    assert "data-edit" not in page
    assert 'id="comment"' not in page
    assert client.get(f"/records/deal/{deal}/edit").status_code == 403
    assert client.get(f"/records/deal/{deal}/delete").status_code == 403
    assert (
        post(
            client, f"/records/deal/{deal}/edit", {"name": "x", "csrf_token": token_of(client, "/deals")}
        ).status_code
        == 403
    )


@pytest.mark.parametrize("path", ["", "/edit", "/timeline", "/around", "/delete"])
def test_what_somebody_may_not_see_does_not_exist(log_in: LogIn, deal: int, path: str) -> None:
    assert log_in("Otto").get(f"/records/deal/{deal}{path}", follow_redirects=True).status_code == 404


def test_a_manager_gives_a_record_to_somebody_else(
    store: Store, log_in: LogIn, deal: int, cast: Cast
) -> None:
    client = log_in("Mara")
    form = form_of(client, f"/records/deal/{deal}/edit?field=owner_id")
    assert (
        post(client, f"/records/deal/{deal}/edit", {**form, "owner_id": str(cast["Ben"].id)}).status_code
        == 302
    )
    assert read(store, Deal, deal).owner_id == cast["Ben"].id
    assert 'data-edit="owner_id"' not in log_in("Ben").get(f"/deals/{deal}").text


def test_deleting_asks_first_and_not_over_somebody_elses_change(
    store: Store, log_in: LogIn, deal: int
) -> None:
    client = log_in("Ana")
    path = f"/records/deal/{deal}/delete"
    assert "Delete New shelves?" in client.get(path).text
    token = token_of(client, path)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal), {"name": "Changed"})
    assert post(client, path, {"csrf_token": token, "version": "1"}).status_code == 412
    for unreadable in ({}, {"version": ""}, {"version": "latest"}, {"version": "9" * 30}):
        assert post(client, path, {"csrf_token": token, **unreadable}).status_code == 422
    assert post(client, path, {"csrf_token": token, "version": "2"}).status_code == 302
    assert client.get(f"/deals/{deal}").status_code == 404


# ------------------------------------------------------------------------------------------------ timeline


def test_the_timeline_comes_page_by_page_and_by_kind(
    store: Store, log_in: LogIn, deal: int, clock: FixedClock
) -> None:
    for number in range(25):
        clock.advance(timedelta(hours=1))
        with store.transaction() as transaction:
            make_activity(transaction, deal_id=deal, subject=f"Call no {number}.")
    client = log_in("Ana")
    first = client.get(f"/deals/{deal}").text
    assert "Call no 24." in first
    assert "Call no 3." not in first
    older = re.search(r'data-older="([^"]+)"', first)
    assert older is not None
    part = client.get(older[1].replace("&amp;", "&"), headers={"X-Requested-With": "fetch"}).text
    assert "Call no 3." in part
    assert "Call no 24." not in part
    assert "<html" not in part
    whole = re.search(r'class="older"><a[^>]* href="([^"]+)"', first)
    assert whole is not None
    assert "Call no 3." in client.get(whole[1].replace("&amp;", "&")).text
    changes = client.get(f"/deals/{deal}?kinds=changes").text
    assert "Call no" not in changes
    assert "Record created" in changes
    assert "Call no 24." in client.get(f"/deals/{deal}?kinds=nonsense&before=nonsense").text


def test_changes_name_records_by_their_names_and_not_those_that_may_not_be_seen(
    store: Store, log_in: LogIn, deal: int, cast: Cast
) -> None:
    with store.transaction() as transaction:
        mine = make_account(transaction, owner_id=cast["Ana"].id, name="Known Ltd").id
        secret = make_account(transaction, owner_id=cast["Otto"].id, name="Secret Ltd").id
        for account in (secret, mine):
            transaction.update(transaction.get(Deal, deal), {"account_id": account})
    page = log_in("Ana").get(f"/deals/{deal}").text
    assert "Known Ltd" in page
    assert "Secret Ltd" not in page
    assert "not for you to see" in page


def test_a_next_step_is_logged_with_its_day_and_ticked_off(store: Store, log_in: LogIn, deal: int) -> None:
    client = log_in("Ana")
    token = token_of(client, f"/deals/{deal}")
    task = {"csrf_token": token, "kind": "task", "subject": "Send the offer", "due_at": "2026-03-05T10:00"}
    assert post(client, f"/deals/{deal}/activities", task).status_code == 302
    page = client.get(f"/deals/{deal}").text
    assert "Next steps" in page
    with store.reading() as session:
        step = session.scalars(select(Activity).where(Activity.kind == "task")).one()
    assert step.due_at is not None
    assert post(client, f"/records/activity/{step.id}/done", {"csrf_token": token}).status_code == 302
    assert read(store, Activity, step.id).outcome == "done"
    assert ">Next steps<" not in client.get(f"/deals/{deal}").text


def test_only_a_next_step_is_ticked_off(store: Store, log_in: LogIn, deal: int) -> None:
    with store.transaction() as transaction:
        call = make_activity(transaction, deal_id=deal).id
    client = log_in("Ana")
    token = token_of(client, f"/deals/{deal}")
    assert post(client, f"/records/activity/{call}/done", {"csrf_token": token}).status_code == 422


def test_ones_own_activity_is_changed_and_deleted(store: Store, log_in: LogIn, deal: int, cast: Cast) -> None:
    with store.transaction() as transaction:
        call = make_activity(transaction, deal_id=deal, owner_id=cast["Ana"].id, subject="Cold").id
    client = log_in("Ana")
    assert f"/records/activity/{call}/edit" in client.get(f"/deals/{deal}").text
    form = form_of(client, f"/records/activity/{call}/edit?field=subject")
    answer = post(client, f"/records/activity/{call}/edit", {**form, "subject": "Warm"})
    assert answer.headers["Location"].startswith(f"/deals/{deal}")
    assert read(store, Activity, call).subject == "Warm"
    form["csrf_token"] = token_of(client, f"/records/activity/{call}/delete")
    answer = post(client, f"/records/activity/{call}/delete", form | {"version": "2"})
    assert answer.headers["Location"].startswith(f"/deals/{deal}")
    assert read(store, Activity, call).deleted_at is not None


# ------------------------------------------------------------------------------------------------ comments


def test_who_is_mentioned_and_sees_the_record_is_told(
    store: Store, log_in: LogIn, deal: int, cast: Cast
) -> None:
    client = log_in("Ana")
    token = token_of(client, f"/deals/{deal}")
    said = {"csrf_token": token, "body": "@Mara please look; @Otto, you too. Not a@Benz, nor @Ana"}
    answer = post(client, f"/records/deal/{deal}/comments", said, follow_redirects=True)
    assert "Told: Mara." in answer.text
    assert "Otto may not see this and was not told." in answer.text
    with store.reading() as session:
        comment = session.scalars(select(Comment)).one()
        told = {name: list_notifications(session, cast[name].id, limit=9) for name in ("Mara", "Otto", "Ana")}
    assert comment.mentions == [cast["Ana"].id, cast["Mara"].id, cast["Otto"].id] or set(
        comment.mentions or ()
    ) == {cast["Ana"].id, cast["Mara"].id, cast["Otto"].id}
    assert [(each.about_type, each.about_id, each.actor_id) for each in told["Mara"]] == [
        ("deal", deal, cast["Ana"].id)
    ]
    assert told["Otto"] == told["Ana"] == []
    assert "please look" in log_in("Mara").get(f"/deals/{deal}").text


def test_a_script_gets_the_timeline_with_the_comment_and_an_empty_one_is_refused(
    log_in: LogIn, deal: int
) -> None:
    client = log_in("Ana")
    token = token_of(client, f"/deals/{deal}")
    by_script = {"X-Requested-With": "fetch"}
    path = f"/records/deal/{deal}/comments"
    answer = post(client, path, {"csrf_token": token, "body": "<b>bold</b>"}, headers=by_script)
    assert answer.status_code == 201
    assert "&lt;b&gt;bold&lt;/b&gt;" in answer.text
    refused = post(client, path, {"csrf_token": token, "body": " "}, headers=by_script)
    assert (refused.status_code, refused.mimetype) == (422, "text/plain")
    assert post(log_in("Dana"), path, {"csrf_token": token, "body": "x"}).status_code in {400, 403}


def test_names_are_completed(log_in: LogIn) -> None:
    assert log_in("Ana").get("/records/-/people?q=ma").json == ["Mara"]


# ------------------------------------------------------------------------------------------------ files

PDF = b"%PDF-1.7 something"


def put(client: FlaskClient, deal: int, content: bytes, name: str) -> Any:
    """Send a file as a browser does; by hand, because the client of the tests leaves large ones open."""
    fields = {
        "csrf_token": token_of(client, f"/deals/{deal}").encode(),
        'file"; filename="' + name: content,
    }
    body = b"".join(
        f'--limit\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'.encode() + value + b"\r\n"
        for field, value in fields.items()
    )
    return client.post(
        f"/records/deal/{deal}/files",
        data=body + b"--limit--\r\n",
        content_type="multipart/form-data; boundary=limit",
    )


def test_a_file_is_kept_and_saved_by_who_sees_the_record(
    store: Store, log_in: LogIn, deal: int, settings: Settings
) -> None:
    assert put(log_in("Ana"), deal, PDF, "../报价 offer.html").status_code == 302
    with store.reading() as session:
        held = session.scalars(select(Attachment)).one()
    assert (held.name, held.media_type, held.size) == ("报价 offer.html", "application/pdf", len(PDF))
    assert place_of(settings.home_folder.files, str(held.sha256)).read_bytes() == PDF
    answer = log_in("Mara").get(f"/files/{held.id}", buffered=True)
    assert answer.data == PDF
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Content-Type"] == "application/pdf"
    assert log_in("Otto").get(f"/files/{held.id}").status_code == 404
    assert "报价 offer.html" in log_in("Ana").get(f"/records/deal/{deal}/around").text


def test_a_page_of_html_is_only_a_text_to_be_saved(store: Store, log_in: LogIn, deal: int) -> None:
    put(log_in("Ana"), deal, b"<script>alert(1)</script>", "page.html")
    answer = log_in("Ana").get("/files/1", buffered=True)
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(("content", "name"), [(b"", "empty.txt"), (b"x" * (2**20 + 1), "large.bin")])
def test_an_empty_and_a_large_file_are_refused_and_leave_nothing(
    store: Store, log_in: LogIn, deal: int, settings: Settings, content: bytes, name: str
) -> None:
    client = log_in("Ana")
    object.__setattr__(settings, "file_mib", 1)
    answer = put(client, deal, content, name)
    assert answer.status_code == 422
    assert "at most 1 MiB" in answer.text
    assert [path for path in settings.home_folder.files.rglob("*") if path.is_file()] == []


def test_a_request_beyond_all_is_not_even_read(log_in: LogIn, deal: int, settings: Settings) -> None:
    client = log_in("Ana")
    object.__setattr__(settings, "file_mib", 1)
    assert put(client, deal, b"x" * (3 * 2**20), "huge.bin").status_code == 413


def test_files_that_nothing_names_any_more_are_deleted(
    store: Store, log_in: LogIn, deal: int, settings: Settings
) -> None:
    folder = settings.home_folder.files
    for content in (PDF, PDF, b"other"):
        put(log_in("Ana"), deal, content, "file")
    assert forget_unused(store, folder) == 0
    client = log_in("Ana")
    for attachment in (1, 3):
        path = f"/records/attachment/{attachment}/delete"
        form = {"csrf_token": token_of(client, path), "version": "1"}
        assert post(client, path, form).status_code == 302
    assert forget_unused(store, folder) == 1
    assert client.get("/files/2", buffered=True).data == PDF
    assert client.get("/files/3").status_code == 404


def test_erasing_a_person_deletes_their_files(
    store: Store, log_in: LogIn, cast: Cast, settings: Settings
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, email="eva@example.com").id
    client = log_in("Ana")
    data = {"csrf_token": token_of(client, f"/leads/{lead}"), "file": (io.BytesIO(PDF), "passport.pdf")}
    client.post(f"/records/lead/{lead}/files", data=data, content_type="multipart/form-data")
    with store.transaction() as transaction:
        assert erase_person(transaction, record=("lead", lead)).files == 0  # none is kept elsewhere
    assert forget_unused(store, settings.home_folder.files) == 1


def test_nobody_names_a_kept_file_by_its_address(
    log_in: LogIn, client: FlaskClient, cast: Cast, deal: int
) -> None:
    put(log_in("Ana"), deal, PDF, "secret.pdf")
    mine = {"subject_type": "user", "subject_id": 1, "name": "x", "uri": "crm:files/" + "0" * 64}
    answer = client.post("/api/v1/attachments", json=mine, headers=cast.header("Otto"))
    assert answer.status_code == 422
    assert "file elsewhere" in answer.text


def test_a_reference_to_elsewhere_is_a_link_and_no_file(store: Store, log_in: LogIn, deal: int) -> None:
    with store.transaction() as transaction:
        at = {"subject_type": "deal", "subject_id": deal}
        transaction.create(Attachment(**at, name="Plan", uri="https://files.example.com/plan"))
    client = log_in("Ana")
    assert 'href="https://files.example.com/plan"' in client.get(f"/records/deal/{deal}/around").text
    assert client.get("/files/1").status_code == 422


def test_the_bytes_say_what_a_file_is(tmp_path: Any) -> None:
    for content, media_type in (
        (b"\x89PNG\r\n\x1a\n..", "image/png"),
        (b"PK\x03\x04 no archive", "application/zip"),
        ("纯文本".encode(), "text/plain"),
        (("中" * 2000).encode()[:-1], "application/octet-stream"),
        (b"\x00\x01", "application/octet-stream"),
    ):
        path = tmp_path / "file"
        path.write_bytes(content)
        if media_type != "application/octet-stream" or b"\x00" in content:
            assert media_type_of(path) == media_type
    assert safe_name("C:\\temp\\a\x00b.txt") == "ab.txt"
    assert safe_name("..") == "file"
    assert len(safe_name("x" * 400 + ".pdf")) <= 200


def test_the_home_has_a_folder_for_files(home: Any) -> None:
    Home.at(home).create()
    assert (home / "files").is_dir()


# ------------------------------------------------------------------------------------------------ around


def test_what_is_linked_is_listed_with_its_page_and_only_what_may_be_seen(
    store: Store, log_in: LogIn, cast: Cast
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        make_contact(transaction, account_id=account, name="Eva Hill", owner_id=cast["Ana"].id)
        make_deal(transaction, account_id=account, owner_id=cast["Otto"].id, name="Otto's own")
        make_contract(transaction, account_id=account, number="C-7")
        make_ticket(transaction, account_id=account, subject="It squeaks")
    part = log_in("Ana").get(f"/records/account/{account}/around", headers={"X-Requested-With": "fetch"}).text
    assert "<html" not in part
    for name, path in (
        ("Eva Hill", "/contacts/"),
        ("C-7", "/records/contract/"),
        ("It squeaks", "/tickets/"),
    ):
        assert re.search(rf'href="{path}\d+">{name}<', part), name
    assert "Otto's own" not in part
    for path in re.findall(r'href="(/(?:contacts|tickets|records/\w+)/\d+)"', part):
        assert log_in("Ana").get(path).status_code == 200


def test_pages_and_lists_of_contacts_and_plain_types(store: Store, log_in: LogIn, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id, name="Hill & Sons").id
        for number in range(30):
            make_contact(transaction, account_id=account, owner_id=cast["Ana"].id, name=f"Person {number:02}")
        make_contact(transaction, owner_id=cast["Otto"].id, name="Not hers")
        contract = make_contract(transaction, account_id=account, number="C-7").id
    client = log_in("Ana")
    first = client.get("/contacts").text
    assert first.count("Hill &amp; Sons") == 25
    assert "Not hers" not in first
    following = re.search(r'href="(/contacts\?cursor=[^"]+)"', first)
    assert following is not None
    assert client.get(following[1]).text.count("Hill &amp; Sons") == 5
    assert client.get("/contacts?q=person+07").text.count("Hill &amp; Sons") == 1
    assert "Nothing fits" in client.get("/contacts?q=xyzzy").text
    assert client.get("/contacts?cursor=nonsense").status_code == 200
    assert "C-7" in client.get("/records/contract").text
    assert "C-7" in client.get(f"/records/contract/{contract}").text
    assert client.get("/records/lead").headers["Location"] == "/leads"
    for path in (
        "/records/user",
        "/records/user/1",
        "/records/nonsense",
        "/records/nonsense/1",
        "/contacts/99999",
    ):
        assert client.get(path).status_code == 404, path


def test_an_activity_is_logged_on_a_contact(store: Store, log_in: LogIn, cast: Cast) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, owner_id=cast["Ana"].id).id
    client = log_in("Ana")
    form = {"csrf_token": token_of(client, f"/contacts/{contact}"), "kind": "call", "subject": "Hello"}
    assert post(client, f"/records/contact/{contact}/activities", form).status_code == 302
    assert "Hello" in client.get(f"/contacts/{contact}").text
    bad = post(client, f"/records/contact/{contact}/activities", {**form, "kind": "dance"})
    assert bad.status_code == 422
    assert 'value="Hello"' in bad.text


def test_a_page_takes_few_queries(
    store: Store, log_in: LogIn, deal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "FRESH_SECONDS", 600)  # however slow the machine is
    with store.transaction() as transaction:
        for number in range(12):
            make_activity(transaction, deal_id=deal, subject=f"Call {number}")
    client = log_in("Ana")
    client.get(f"/deals/{deal}")
    asked: list[str] = []

    def count(*call: Any) -> None:
        if not call[2].startswith("BEGIN"):
            asked.append(call[2])

    event.listen(store.engine, "before_cursor_execute", count)
    try:
        assert client.get(f"/deals/{deal}").status_code == 200
        on_page = asked.copy()
        asked.clear()
        assert client.get(f"/records/deal/{deal}/around").status_code == 200
    finally:
        event.remove(store.engine, "before_cursor_execute", count)
    assert len(on_page) <= 12, on_page
    assert len(asked) <= 12


# ------------------------------------------------------------------------------------------------ similar


def test_similar_ones_are_the_nearest_that_ended_and_may_be_seen(
    store: Store, log_in: LogIn, cast: Cast, deal: int, clock: FixedClock
) -> None:
    began = clock.now()
    clock.advance(timedelta(days=40))
    with store.transaction() as transaction:
        mine = {"owner_id": cast["Ana"].id, "occurred_at": began}
        retail = make_account(transaction, owner_id=cast["Ana"].id, industry="Retail").id
        steel = make_account(transaction, owner_id=cast["Ana"].id, industry="steel").id
        ended = {"closed_at": clock.now() - timedelta(days=3), "currency": "EUR"}
        near = {**mine, **ended, "account_id": retail, "amount": Decimal(1100)}
        far = {**mine, **ended, "account_id": steel, "amount": Decimal(900_000)}
        make_deal(transaction, **near, name="Near", status="won")
        make_deal(transaction, **far, name="Far", status="lost")
        make_deal(transaction, **(near | {"owner_id": cast["Otto"].id}), name="Otto's", status="won")
        make_deal(transaction, **mine, account_id=retail, name="Still open")
    part = log_in("Ana").get(f"/records/deal/{deal}/around").text
    part = part[part.index('id="similar-title"') :]
    assert "1 of 2 were won." in part
    assert part.index(">Near<") < part.index(">Far<")
    assert "37 days" in part
    assert "Otto" not in part
    assert "Still open" not in part


def test_a_fact_that_may_not_be_seen_is_not_compared(
    store: Store, log_in: LogIn, cast: Cast, deal: int
) -> None:
    with store.transaction() as transaction:
        make_deal(
            transaction, owner_id=cast["Ana"].id, name="Ended", status="lost", closed_at=transaction.now
        )
        hidden = {"role": "rep", "record_type": "deal", "read": False, "write": False}
        transaction.session.add(FieldRight(**hidden, field="amount"))
    part = log_in("Ana").get(f"/records/deal/{deal}/around").text
    compared = part[part.index("compared by:") :][:200]
    assert "Amount" not in compared
    with store.transaction() as transaction:
        transaction.session.add(FieldRight(**hidden, field="status"))
    assert "None that ended" in log_in("Ana").get(f"/records/deal/{deal}/around").text


def test_customers_and_leads_have_similar_ones_too(store: Store, log_in: LogIn, cast: Cast) -> None:
    with store.transaction() as transaction:
        mine = {"owner_id": cast["Ana"].id, "industry": "retail"}
        account = make_account(transaction, **mine).id
        gone = make_account(transaction, **mine, name="Gone Ltd").id
        make_contract(transaction, account_id=gone, status="ended", ended_at=transaction.now)
        lead = make_lead(transaction, **mine).id
        make_lead(transaction, **mine, company="Bought", status="converted", converted_at=transaction.now)
    client = log_in("Ana")
    customers = client.get(f"/records/account/{account}/around").text
    assert "Gone Ltd" in customers
    assert "0 of 1 renewed." in customers
    leads = client.get(f"/records/lead/{lead}/around").text
    assert "Bought" in leads
    assert "1 of 1 were converted." in leads


def test_the_models_of_the_cast(store: Store) -> None:
    """The types with pages of their own are those that links lead to."""
    from serving.web.places import path_of

    assert [path_of(model.record_type, 1) for model in (Lead, Deal, Account, Contact)] == [
        "/leads/1",
        "/deals/1",
        "/customers/1",
        "/contacts/1",
    ]
    assert path_of("line", 1) is None
