"""A template says what its sender may see, and nothing else."""

from __future__ import annotations

import time
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from crm_core.access import Reader
from crm_core.errors import (
    AccessDeniedError,
    EmptyPlaceError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
    TemplateError,
)
from crm_core.mail_templates import (
    Draft,
    first_name,
    fits,
    get_template,
    list_templates,
    render,
    retire_template,
    save_template,
)
from crm_core.records import User
from crm_core.rights import set_field_right
from crm_core.saved import Shared
from crm_core.store import Store
from tests.factories import declare_custom, make_account, make_contact, make_deal, make_lead, make_user


def draft(body: str, subject: str = "Hello", **given: Any) -> Draft:
    return Draft(name="First mail", subject=subject, body=body, **given)


def test_places_are_filled_from_the_record_its_customer_its_owner_and_the_sender(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction, "Ana Weber", email="ana@example.com")
        account = make_account(transaction, owner_id=ana.id)
        contact = make_contact(transaction, name="Dr. Tom Hill", account_id=account.id, owner_id=ana.id)
        deal = make_deal(
            transaction,
            owner_id=ana.id,
            contact_id=contact.id,
            account_id=account.id,
            amount=Decimal(12_500),
            expected_close_on=date(2026, 4, 1),
        )
        body = (
            "Dear {{ contact.first_name }} of {{account.name}},\n\n"
            "{{ deal.name }}: {{ deal.amount }} {{ deal.currency }} by {{ deal.expected_close_on }}.\n\n"
            '{{ deal.lost_reason | default("nobody else") }}\n{{ sender.first_name }} for {{ owner.name }}'
        )
        made = draft(body, subject="About {{ deal.name }}")
        mail = render(transaction.session, Reader(transaction.session, ana), made, ("deal", deal.id))
    assert mail.subject == "About Twenty pumps"
    assert mail.text == (
        "Dear Tom of Hill & Sons,\n\nTwenty pumps: 12,500 EUR by April 1, 2026.\n\n"
        "nobody else\nAna for Ana Weber"
    )
    assert mail.html == (
        "<p>Dear Tom of Hill &amp; Sons,</p>\n<p>Twenty pumps: 12,500 EUR by April 1, 2026.</p>\n"
        "<p>nobody else<br>\nAna for Ana Weber</p>"
    )


def test_a_field_hidden_from_the_sender_is_refused_even_with_a_default(store: Store) -> None:
    with store.transaction() as transaction:
        ana, chief = make_user(transaction), make_user(transaction, "Zoe", role="admin")
        deal = make_deal(transaction, owner_id=ana.id)
        set_field_right(transaction.session, "rep", "deal", "amount", read=False, write=False)
        made = draft('It is {{ deal.amount | default("much") }}')
        with pytest.raises(AccessDeniedError, match=r"deal\.amount"):
            render(transaction.session, Reader(transaction.session, ana), made, ("deal", deal.id))
        seen = render(transaction.session, Reader(transaction.session, chief), made, ("deal", deal.id))
        assert seen.text == "It is 12,000"


def test_first_name_is_as_hidden_as_the_name(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        lead = make_lead(transaction, owner_id=ana.id)
        set_field_right(transaction.session, "rep", "lead", "name", read=False, write=False)
        made = draft("Dear {{ lead.first_name }}")
        with pytest.raises(AccessDeniedError):
            render(transaction.session, Reader(transaction.session, ana), made, ("lead", lead.id))


def test_a_linked_record_that_the_sender_may_not_see_is_refused(store: Store) -> None:
    with store.transaction() as transaction:
        ana, ben = make_user(transaction), make_user(transaction, "Ben")
        account = make_account(transaction, owner_id=ben.id)
        deal = make_deal(transaction, owner_id=ana.id, account_id=account.id)
        reader = Reader(transaction.session, ana)
        with pytest.raises(AccessDeniedError, match="account"):
            render(transaction.session, reader, draft("{{ account.name }}"), ("deal", deal.id))
        other = make_deal(transaction, owner_id=ben.id)
        with pytest.raises(RecordNotFoundError):
            render(transaction.session, reader, draft("{{ deal.name }}"), ("deal", other.id))


def test_an_empty_field_without_a_default_is_refused(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        lead = make_lead(transaction, owner_id=ana.id, name=None)
        reader = Reader(transaction.session, ana)
        with pytest.raises(EmptyPlaceError, match="default"):
            render(transaction.session, reader, draft("Dear {{ lead.name }},"), ("lead", lead.id))
        made = draft("您好{{ lead.name | default('') }}，", language="zh")
        assert render(transaction.session, reader, made, ("lead", lead.id)).text == "您好，"


def test_what_is_filled_in_is_neither_a_place_nor_a_page_nor_a_header(store: Store) -> None:
    evil = "<script>alert(1)</script> {{ lead.phone }}\x07\r\nBcc: all@example.com"
    with store.transaction() as transaction:
        ana = make_user(transaction)
        lead = make_lead(transaction, owner_id=ana.id, company=evil, phone="555")
        made = draft("{{ lead.company }} https://example.com/a?b=1&c=2.", subject="{{ lead.company }}")
        mail = render(transaction.session, Reader(transaction.session, ana), made, ("lead", lead.id))
    assert "555" not in mail.text + mail.subject
    assert mail.subject.isprintable()
    assert "<script" not in mail.html
    assert '<a href="https://example.com/a?b=1&amp;c=2">https://example.com/a?b=1&amp;c=2</a>.' in mail.html


def test_custom_fields_and_given_links_are_filled_in(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        declare_custom(transaction, "lead", tier="text")
        lead = make_lead(transaction, owner_id=ana.id, custom={"tier": "gold"})
        made = draft("{{ lead.custom.tier }}: {{ link }}")
        reader = Reader(transaction.session, ana)
        mail = render(
            transaction.session, reader, made, ("lead", lead.id), given={"link": "https://crm.example.com/x"}
        )
    assert mail.text == "gold: https://crm.example.com/x"


@pytest.mark.parametrize(
    "body",
    [
        "{{ lead.nonsense }}",
        "{{ nobody.name }}",
        "{{ lead }}",
        "{{ owner.password_hash }}",
        "{{ sender.role }}",
        "{{ lead.__class__ }}",
        "{{ lead.name.upper }}",
        "{{ lead.name() }}",
        "{{ lead['name'] }}",
        "{{ lead.name | upper }}",
        "{{ lead.name | default(lead.phone) }}",
        "{{ lead.name",
        "lead.name }}",
        "{% for each in leads %}x{% endfor %}",
        "{# a note #}",
        "{{ lead.custom.none }}",
        "{{ lead.custom }}",
        "{{ lead.reasons }}",
        "{{ lead.probability }}",
        "{{ 7 * 7 }}",
        "{{ {{ lead.name }} }}",
        "{{}}",
    ],
)
def test_what_is_no_known_place_is_refused_when_a_template_is_saved(store: Store, body: str) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        with pytest.raises(TemplateError):
            save_template(transaction, ana, draft(body))


def test_a_place_that_the_record_does_not_lead_to_is_refused_by_name(store: Store) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        lead = make_lead(transaction, owner_id=ana.id)
        made = draft("{{ deal.name }} {{ ticket.subject }}")
        assert not fits(made, "lead")
        assert fits(draft("{{ contact.name }} {{ owner.name }}"), "deal")
        with pytest.raises(TemplateError, match="ticket"):
            render(
                transaction.session,
                Reader(transaction.session, ana),
                draft("{{ ticket.subject }}"),
                ("lead", lead.id),
            )


def test_templates_are_used_by_those_they_are_shared_with_and_changed_by_whoever_made_them(
    store: Store,
) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        ana, ben = make_user(transaction), make_user(transaction, "Ben")
        own = save_template(transaction, ana, draft("Mine"))
        ours = save_template(transaction, ana, Draft(name="Ours", subject="S", body="B", shared=Shared.ALL))
        assert [each.id for each in list_templates(session, ben)] == [ours.id]
        with pytest.raises(RecordNotFoundError):
            get_template(session, ben, own.id)
        with pytest.raises(AccessDeniedError):
            save_template(transaction, ben, draft("Mine"), template_id=ours.id)
        save_template(transaction, ana, draft("Better"), template_id=own.id, version=1)
        with pytest.raises(StaleRecordError):
            save_template(transaction, ana, draft("Worse"), template_id=own.id, version=1)
        retire_template(transaction, ana, own.id)
        assert list_templates(session, ana) == [ours]


def test_somebody_who_only_reads_saves_no_template(store: Store) -> None:
    with store.transaction() as transaction:
        analyst: User = make_user(transaction, "Ada", role="analyst")
        with pytest.raises(AccessDeniedError):
            save_template(transaction, analyst, draft("Hello"))
        with pytest.raises(InvalidValueError):
            save_template(transaction, make_user(transaction), draft("Hello", subject="a\nb"))


@pytest.mark.parametrize(
    ("name", "greeted"),
    [
        ("Ana Weber", "Ana"),
        ("Dr. Tom Hill", "Tom"),
        ("Weber, Ana", "Ana"),
        ("王芳", "王芳"),
        ("Prof.", "Prof."),
    ],
)
def test_a_first_name_is_how_a_letter_greets(name: str, greeted: str) -> None:
    assert first_name(name) == greeted


@pytest.mark.parametrize("beginning", ["{{", "{{ a ", "{{{{ }"])
def test_a_template_of_nothing_but_openings_is_refused_at_once(store: Store, beginning: str) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        wanted = draft((beginning * 40_000)[:40_000])
        since = time.perf_counter()
        with pytest.raises(TemplateError, match="opened and closed"):
            save_template(transaction, ana, wanted)
        assert time.perf_counter() - since < 5
