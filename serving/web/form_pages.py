"""The pages of whoever looks after web forms: making them, linking or embedding them, and what was held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import false

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import InvalidValueError, StaleRecordError
from crm_core.form_taking import let_through, throw_away
from crm_core.forms import (
    MESSAGE,
    AskedField,
    Standing,
    Texts,
    WantedForm,
    WebForm,
    askable_fields,
    change_form,
    check_may_look_after_forms,
    count_by_standing,
    get_form,
    list_forms,
    list_submissions,
    make_form,
    wanted_of,
)
from crm_core.records import Campaign, Lead
from crm_core.sources import list_sources
from serving.owners import list_owners
from serving.service import end_page_session, page_session, wake_rescoring, writing
from serving.web.asked import whole
from serving.web.language import gettext
from serving.web.refusals import refusal
from serving.web.words import field_word

ROWS = 25
MOST_CAMPAIGNS = 200
FIRST = (("name", False), ("company", False), ("email", True), ("phone", False), (MESSAGE, False))
"""What a new form asks, and whether it must be answered."""

pages = Blueprint("form_pages", __name__, url_prefix="/campaigns/forms")


@pages.before_request
def _check() -> None:
    """Refuse who may not look after forms; who is not logged in is sent to log in by others."""
    if current_user.is_authenticated:
        check_may_look_after_forms(_reader())


@pages.get("")
def list_all() -> ResponseReturnValue:
    """List all forms, with how much came by each."""
    session = page_session()
    campaigns = _reader().select(Campaign).with_only_columns(Campaign.id, Campaign.name)
    rows: Any = session.execute(campaigns).all()
    names: dict[int, str] = {key: name for key, name in rows}  # noqa: C416  rows are no pairs for mypy
    return render_template(
        "form_list.html", forms=list_forms(session), counts=count_by_standing(session), campaigns=names
    )


@pages.get("/new")
def show_new() -> ResponseReturnValue:
    """Show an empty form to be made."""
    asked = tuple(AskedField(field=name, required=required) for name, required in FIRST)
    wanted = WantedForm(
        name="", source="web form", fields=asked, campaign_id=request.args.get("campaign", type=whole)
    )
    return _edit(None, wanted, "", 200)


@pages.post("/new")
def create() -> ResponseReturnValue:
    """Make a form."""
    wanted = _wanted()
    try:
        with writing(current_user.user, Source.REP) as transaction:
            made = make_form(transaction, current_user.user, wanted).id
    except InvalidValueError as error:
        return _edit(None, wanted, refusal(error), 422)
    return redirect(url_for("form_pages.show", form_id=made))


@pages.get("/<int:form_id>")
def show(form_id: int) -> ResponseReturnValue:
    """Show a form, where it is, and what can be changed of it."""
    form = get_form(page_session(), form_id)
    return _edit(form, wanted_of(form), "", 200)


@pages.post("/<int:form_id>")
def change(form_id: int) -> ResponseReturnValue:
    """Change a form; what is refused stays."""
    wanted = _wanted()
    version = request.form.get("version", type=whole)
    try:
        with writing(current_user.user, Source.REP) as transaction:
            change_form(transaction, current_user.user, form_id, wanted, version=version)
    except StaleRecordError:
        why = gettext("Somebody changed this form meanwhile. What you typed is kept: look it over and save.")
        return _again(form_id, wanted, why, 409)
    except InvalidValueError as error:
        return _again(form_id, wanted, refusal(error), 422)
    flash(gettext("Noted."))
    return redirect(url_for("form_pages.show", form_id=form_id))


@pages.get("/held")
def list_held() -> ResponseReturnValue:
    """List what was held, newest first."""
    session = page_session()
    before = request.args.get("before", type=whole)
    found = list_submissions(session, standing=Standing.HELD, limit=ROWS + 1, before=before)
    return render_template(
        "form_held.html",
        rows=found[:ROWS],
        more=found[ROWS - 1].id if len(found) > ROWS else None,
        before=before,
        forms={each.id: each.name for each in list_forms(session)},
        label=label_of,
    )


@pages.post("/held/<int:submission_id>")
def decide(submission_id: int) -> ResponseReturnValue:
    """Let through what was held, or throw it away."""
    decision = throw_away if request.form.get("decision") == "discard" else let_through
    with writing(current_user.user, Source.REP) as transaction:
        standing = decision(transaction, current_user.user, submission_id).standing
    wake_rescoring()
    taken = standing == Standing.TAKEN
    flash(gettext("It was let through.") if taken else gettext("It was thrown away."))
    return redirect(url_for("form_pages.list_held"))


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


def _again(form_id: int, wanted: WantedForm, why: str, status: int) -> ResponseReturnValue:
    end_page_session()
    return _edit(get_form(page_session(), form_id), wanted, why, status)


def _wanted() -> WantedForm:
    """Return the form as it was typed; the fields in the order in which they are offered."""
    form = request.form
    asked, required = form.getlist("asks"), set(form.getlist("requires"))
    return WantedForm(
        name=form.get("name", ""),
        source=form.get("source", ""),
        fields=tuple(AskedField(field=name, required=name in required) for name in dict.fromkeys(asked)),
        campaign_id=form.get("campaign_id", type=whole),
        owner_id=form.get("owner_id", type=whole),
        title=_texts(form, "title"),
        consent=_texts(form, "consent"),
        thanks=_texts(form, "thanks"),
        origins=tuple(line for line in form.get("origins", "").splitlines() if line.strip()),
        active=form.get("active") == "yes",
    )


def _texts(form: Mapping[str, str], name: str) -> Texts:
    return Texts(en=form.get(f"{name}_en", ""), zh=form.get(f"{name}_zh", ""))


def _edit(form: WebForm | None, wanted: WantedForm, why: str, status: int) -> ResponseReturnValue:
    session, reader = page_session(), _reader()
    campaigns = reader.select(Campaign).with_only_columns(Campaign.id, Campaign.name)
    required = {each.field: each.required for each in wanted.fields}
    told = reader.may_read_field("lead", "source")
    shown: dict[str, Any] = {
        "form": form,
        "wanted": wanted,
        "why": why,
        "required": required,
        "askable": [*required, *(name for name in askable_fields(session) if name not in required)],
        "label": label_of,
        "campaigns": session.execute(campaigns.order_by(Campaign.id.desc()).limit(MOST_CAMPAIGNS)).all(),
        "owners": list_owners(session, current_user.user),
        "sources": list_sources(session, reader.readable(Lead) if told else false()),
        "address": url_for("public_forms.show", public_id=form.public_id, _external=True) if form else "",
    }
    return make_response(render_template("form_edit.html", **shown), status)


def label_of(name: str) -> str:
    """Return what a field of a form is called on our pages."""
    return gettext("Your message") if name == MESSAGE else field_word("lead", name)
