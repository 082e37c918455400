"""Web forms as strangers see them: a page to link or embed, and JSON for sites with forms of their own.

Whatever becomes of what was sent, the answer is the same: nobody learns whether an address is known here, or
that something was held. No cookie is read or set, so that the page works inside of other sites.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, current_app, g, make_response, render_template, request
from flask.typing import ResponseReturnValue

from crm_core.changes import Source
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError
from crm_core.fields import CUSTOM, list_fields
from crm_core.form_taking import Sent, check_values, read_page, read_utm, take_submission
from crm_core.forms import MESSAGE, WebForm, asked_of, find_public, read_origin, texts_of
from serving.form_sheets import Sheet, hand_out, read_sheet
from serving.limits import Standing, place_of
from serving.logs import get_log
from serving.service import end_page_session, page_session, service, wake_rescoring
from serving.web.language import LANGUAGES, choose_language, gettext
from serving.web.words import field_word, word

LONGEST_BODY: Final = 64 * 1024
TRAP: Final = "homepage"
"""A field that people do not see; whoever fills it in is no person."""

_INPUTS: Final = {"email": "email", "phone": "tel"}
_COMPLETE: Final = {
    "name": "name",
    "company": "organization",
    "email": "email",
    "phone": "tel",
    "title": "organization-title",
}

pages = Blueprint("public_forms", __name__, url_prefix="/forms")
_log = get_log("serving.forms")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a form's page."""

    name: str
    label: str
    required: bool
    kind: str
    choices: tuple[str, ...] = ()
    complete: str = "off"
    longest: int = 300


@pages.before_request
def _prepare() -> None:
    asked = request.args.get("lang", "") or str(request.accept_languages.best_match(LANGUAGES) or "")
    g.form_language = asked if asked in LANGUAGES else service().settings.language


@pages.get("/<public_id>", provide_automatic_options=False)
def show(public_id: str) -> ResponseReturnValue:
    """Show the form, to be filled in."""
    form = _find(public_id)
    return _page(form, {}, {}, 200)


@pages.get("/<public_id>/sheet", provide_automatic_options=False)
def give_sheet(public_id: str) -> ResponseReturnValue:
    """Tell a site what to ask, and give it a sheet to send back with what was filled in."""
    form = _find(public_id)
    _check_origin(form)
    language = choose_language()
    said = {
        "sheet": _new_sheet(form),
        "title": texts_of(form, "title").say(language),
        "fields": [
            {"name": each.name, "label": each.label, "required": each.required, "choices": list(each.choices)}
            for each in _inputs(form)
        ],
        "consent": texts_of(form, "consent").say(language) if form.wording else None,
    }
    return _open_to(form, Response(json.dumps(said), content_type="application/json"))


@pages.route("/<public_id>", methods=["OPTIONS"])
@pages.route("/<public_id>/sheet", methods=["OPTIONS"])
def allow(public_id: str) -> ResponseReturnValue:
    """Tell a browser that the page of an allowed site may send and read."""
    form = _find(public_id)
    _check_origin(form)
    answer = _open_to(form, Response(status=204))
    answer.headers["Access-Control-Allow-Methods"] = "GET, POST"
    answer.headers["Access-Control-Allow-Headers"] = "Content-Type"
    answer.headers["Access-Control-Max-Age"] = "600"
    return answer


@pages.post("/<public_id>", provide_automatic_options=False)
def send(public_id: str) -> ResponseReturnValue:
    """Take in what somebody filled in."""
    if (request.content_length or 0) > LONGEST_BODY:
        abort(413)
    form = _find(public_id)
    _check_origin(form)
    standing = service().limits.forms.ask(place_of(request.remote_addr), service().store.clock.now())
    if standing is not None and standing.refused:
        return _too_often(form, standing)
    return _take_json(form) if request.is_json else _take_page(form)


def _find(public_id: str) -> WebForm:
    form = find_public(page_session(), public_id) if len(public_id) <= 32 and public_id.isascii() else None
    if form is None:
        abort(404)
    return form


# ---------------------------------------------------------------- whose pages may send


def _check_origin(form: WebForm) -> None:
    """Refuse what comes from a page of a site that was not named; what names no site is no other's page."""
    sent = request.headers.get("Origin")
    if sent is None or _is_ours(sent) or _named(form) is not None:
        return
    abort(403)


def _is_ours(origin: str) -> bool:
    return urlsplit(origin).netloc == request.host and origin != "null"


def _named(form: WebForm) -> str | None:
    """Return the origin that a request names, if it is one of the form's."""
    sent = request.headers.get("Origin", "")
    try:
        return sent if read_origin(sent) in form.origins else None
    except InvalidValueError:
        return None


def _open_to(form: WebForm, answer: Response) -> Response:
    """Let the page of a site that was named read an answer."""
    answer.vary.add("Origin")
    origin = _named(form)
    if origin is not None:
        answer.headers["Access-Control-Allow-Origin"] = origin
        answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return answer


def _framed(form: WebForm, answer: Response) -> Response:
    """Let sites that were named show a page inside of theirs."""
    if form.origins:
        ancestors = " ".join(["'self'", *form.origins])
        answer.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
            f"base-uri 'none'; frame-ancestors {ancestors}"
        )
        g.may_be_framed = True
    return answer


# ---------------------------------------------------------------- taking in


def _take_page(form: WebForm) -> ResponseReturnValue:
    raw = dict(request.form.items())
    sheet = _read_sheet(form, raw.get("sheet", ""))
    values, wrong = check_values(page_session(), form, raw)
    if sheet is None:
        wrong["sheet"] = "stale"
    if wrong or sheet is None:
        return _page(form, raw, wrong, 422)
    agreed = raw.get("consent") == "yes"
    _take(form, sheet, values, raw, agreed=agreed, trapped=bool(raw.get(TRAP)))
    shown = render_template(
        "public_form.html", done=True, thanks=_thanks(form), title=_title(form), language=choose_language()
    )
    return _framed(form, make_response(shown))


def _take_json(form: WebForm) -> ResponseReturnValue:
    given = _read_json()
    if given is None:
        return _open_to(form, _told({"wrong": {"body": "unreadable"}}, 400))
    raw = {name: value for name, value in given["values"].items() if isinstance(value, str)}
    sheet = _read_sheet(form, given["sheet"])
    values, wrong = check_values(page_session(), form, raw)
    asked = {each.field for each in asked_of(page_session(), form)}
    wrong |= {name[:100]: "not_asked" for name in given["values"] if name not in asked and name != TRAP}
    if sheet is None:
        wrong["sheet"] = "stale"
    if wrong or sheet is None:
        return _open_to(form, _told({"wrong": wrong}, 422))
    marks = {**{f"utm_{name}": text for name, text in given["utm"].items()}, "page": given["page"]}
    _take(form, sheet, values, marks, agreed=given["consent"], trapped=bool(raw.get(TRAP)))
    return _open_to(form, _told({"received": True, "thanks": _thanks(form)}, 202))


def _take(
    form: WebForm,
    sheet: Sheet,
    values: Mapping[str, Any],
    raw: Mapping[str, str],
    *,
    agreed: bool,
    trapped: bool,
) -> None:
    sent = Sent(
        key=sheet.number,
        values=values,
        seconds=sheet.seconds,
        trapped=trapped,
        agreed=agreed,
        language=choose_language(),
        utm=read_utm(raw),
        page=read_page(raw.get("page")),
    )
    with service().store.transaction(source=Source.API) as transaction:
        standing = take_submission(transaction, form, sent).standing
    end_page_session()
    wake_rescoring()
    _log.info("form sent", form=form.id, standing=standing)


def _read_json() -> dict[str, Any] | None:
    """Return the body with all its parts, or None if it is none."""
    try:
        body = json.loads(request.get_data(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    whole = {"sheet": "", "values": {}, "consent": False, "utm": {}, "page": "", **body}
    fits = (
        all(isinstance(whole[name], dict) for name in ("values", "utm"))
        and all(isinstance(whole[name], str) for name in ("sheet", "page"))
        and isinstance(whole["consent"], bool)
        and all(isinstance(text, str) for text in whole["utm"].values())
    )
    return whole if fits else None


def _refuse(text: str) -> object:
    raise ValueError(text)


def _read_sheet(form: WebForm, text: str) -> Sheet | None:
    return read_sheet(_secret(), form.public_id, text, service().store.clock.now())


def _new_sheet(form: WebForm) -> str:
    return hand_out(_secret(), form.public_id, service().store.clock.now())


def _secret() -> str:
    return str(current_app.secret_key)


# ---------------------------------------------------------------- what is answered


def _page(form: WebForm, raw: Mapping[str, str], wrong: Mapping[str, str], status: int) -> Response:
    marks = {
        name: raw.get(name) or request.args.get(name, "")
        for name in (f"utm_{each}" for each in ("source", "medium", "campaign", "term", "content"))
    }
    shown = render_template(
        "public_form.html",
        action=f"/forms/{form.public_id}?lang={choose_language()}",
        title=_title(form),
        inputs=_inputs(form),
        consent=texts_of(form, "consent").say(choose_language()) if form.wording else "",
        sheet=_new_sheet(form),
        marks={name: text for name, text in marks.items() if text},
        from_page=raw.get("page") or request.referrer or "",
        trap=TRAP,
        values=raw,
        wrong={name: _say(problem) for name, problem in wrong.items()},
        language=choose_language(),
    )
    return _framed(form, make_response(shown, status))


def _too_often(form: WebForm, standing: Standing) -> ResponseReturnValue:
    headers = {"Retry-After": standing.headers()["Retry-After"]}
    if request.is_json:
        answer = _told({"wrong": {"rate": "too_often"}}, 429)
        answer.headers.update(headers)
        return _open_to(form, answer)
    answer = _page(form, request.form, {"sheet": "too_often"}, 429)
    answer.headers.update(headers)
    return answer


def _told(body: Mapping[str, Any], status: int) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")


def _title(form: WebForm) -> str:
    return texts_of(form, "title").say(choose_language()) or gettext("Contact us")


def _thanks(form: WebForm) -> str:
    usual = gettext("Thank you. We have received what you sent and will be in touch.")
    return texts_of(form, "thanks").say(choose_language()) or usual


def _say(problem: str) -> str:
    return {
        "missing": gettext("Please fill this in."),
        "too_long": gettext("This is too long."),
        "unreadable": gettext("This cannot be read."),
        "no_mail": gettext("This is no mail address."),
        "no_phone": gettext("This is no telephone number."),
        "no_number": gettext("This is no whole number."),
        "no_choice": gettext("Please choose one of the list."),
        "stale": gettext("The form was open for too long. Please look it over and send it again."),
        "too_often": gettext("Too many were sent from here. Please wait a minute and send it again."),
    }[problem]


def _inputs(form: WebForm) -> list[Input]:
    session = page_session()
    declared = declarations(session).fields("lead")
    called = {each.name: (each.label_en, each.label_zh) for each in list_fields(session, "lead")}
    found = []
    for asked in asked_of(session, form):
        name = asked.field
        own = declared.get(name.removeprefix(CUSTOM)) if name.startswith(CUSTOM) else None
        choices = own.choices if own is not None else ()
        found.append(
            Input(
                name=name,
                label=_label(name, called),
                required=asked.required,
                kind="long" if name == MESSAGE else "choice" if choices else _INPUTS.get(name, "text"),
                choices=choices,
                complete=_COMPLETE.get(name, "off"),
                longest=5_000 if name == MESSAGE else 300,
            )
        )
    return found


def _label(name: str, called: Mapping[str, tuple[str | None, str | None]]) -> str:
    if name == MESSAGE:
        return gettext("Your message")
    if not name.startswith(CUSTOM):
        return field_word("lead", name)
    english, chinese = called.get(name, called.get(name.removeprefix(CUSTOM), (None, None)))
    own = (chinese if choose_language() == "zh" else english) or english
    return own or word("field", name.removeprefix(CUSTOM))
