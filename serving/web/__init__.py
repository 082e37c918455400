"""The pages: server-rendered, in the reader's language, with small scripts of our own."""

from __future__ import annotations

from flask import Flask, current_app, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import Babel
from flask_bootstrap import Bootstrap5
from flask_login import LoginManager, current_user
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.openapi import OpenAPI
from flask_wtf.csrf import CSRFError, CSRFProtect
from sqlalchemy.exc import SQLAlchemyError

from crm_core.records import User
from crm_core.saved import likes_of
from serving.auth import Person, find_person
from serving.service import page_session, service
from serving.web import (
    account,
    admin,
    alerts,
    any_record,
    article_pages,
    board,
    campaigns,
    customers,
    deals,
    entry,
    file_views,
    finding,
    forecast,
    form_pages,
    funnel,
    home,
    imports,
    intake,
    leads,
    list_work,
    lists,
    mail_pages,
    models_page,
    notifications,
    profile,
    public_forms,
    record_tags,
    reporting,
    satisfaction,
    selling,
    sent_once,
    sent_small,
    shown_as,
    team,
    ticket_pages,
    today,
    waiting,
)
from serving.web.asked import use_ids
from serving.web.language import (
    LANGUAGES,
    choose_language,
    choose_time_zone,
    gettext,
    let_templates_speak,
)
from serving.web.navigation import tabs_of
from serving.web.refusals import read_back, worded
from serving.web.words import WORDS, field_word, word

OPEN_ENDPOINTS = frozenset(
    {
        "entry.log_in",
        "entry.show_login",
        "entry.go_to_provider",
        "entry.come_from_provider",
        "entry.choose_language",
        "public_forms.show",
        "public_forms.send",
        "public_forms.give_sheet",
        "public_forms.allow",
        "satisfaction_pages.show",
        "satisfaction_pages.rate",
        "mail_pages.ask_to_unsubscribe",
        "mail_pages.do_unsubscribe",
        "mail_pages.give_calendar",
        "specification.get_document",
        "specification.show_document",
        "web.static",
        "bootstrap.static",
    }
)
"""Pages and files that need no login."""


_PARTS = (
    *(home, entry, account, today, leads, deals, board, customers, alerts, forecast, funnel, team, finding),
    reporting,
    profile,
    *(models_page, imports, lists, list_work, notifications, admin, any_record, file_views, record_tags),
    *(ticket_pages, article_pages, satisfaction),
    selling,
    *(intake, mail_pages),
    *(campaigns, form_pages, public_forms),
)
"""The modules that have pages."""


def register(app: OpenAPI) -> None:
    """Add the pages, and what they need, to the application."""
    use_ids(app)
    Bootstrap5(app)
    Babel(
        app,
        default_translation_directories=str(home.FOLDER / "translations"),
        locale_selector=choose_language,
        timezone_selector=choose_time_zone,
    )
    let_templates_speak(app.jinja_env)
    _add_login(app)
    app.before_request(imports.allow_upload)  # before anything reads the form
    app.before_request(file_views.make_room)
    app.before_request(intake.make_room)
    protection = CSRFProtect(app)
    for blueprint in app.blueprints.values():
        if isinstance(blueprint, APIBlueprint):
            protection.exempt(blueprint)
    protection.exempt(public_forms.pages)  # strangers have no session to protect
    for part in _PARTS:
        app.register_blueprint(part.pages)
    # Mail programs unsubscribe by themselves: what stands for the person is the token in the address.
    protection.exempt(mail_pages.do_unsubscribe)
    app.before_request(_require_login)
    sent_once.register(app)
    app.register_error_handler(CSRFError, _on_expired_form)
    app.jinja_env.filters.update(shown_as.FILTERS)
    app.jinja_env.filters.update(worded=worded, read_back=read_back)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.context_processor(_context)
    sent_small.register(app)


def error_page(status: int, detail: str | None = None) -> ResponseReturnValue:
    """Return the page that tells of an error, whatever else is broken."""
    known = status if status in {400, 403, 404, 405, 413, 500, 503} else 500 if status >= 500 else 400
    return make_response(render_template("error.html", status=status, known=known, detail=detail), status)


def _add_login(app: Flask) -> None:
    manager = LoginManager(app)
    manager.user_loader(_load_person)


def _load_person(session_id: str) -> Person | None:
    person = find_person(service().store, session_id, lasts=current_app.permanent_session_lifetime)
    if person is not None:
        g.caller = person.user
    return person


def _require_login() -> ResponseReturnValue | None:
    """Send people who are not logged in to the login page; API and health answer for themselves."""
    endpoint = request.endpoint
    if endpoint is None or endpoint in OPEN_ENDPOINTS or _answers_for_itself():
        return None
    if current_user.is_authenticated:
        return None
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("entry.show_login", next=wanted))


def _answers_for_itself() -> bool:
    """Tell whether the part that is asked takes a key instead of a login, or nothing: the API and health."""
    return isinstance(current_app.blueprints.get(request.blueprint or ""), APIBlueprint)


def _on_expired_form(_error: CSRFError) -> ResponseReturnValue:
    return error_page(
        400, gettext("The form was open for too long or comes from elsewhere. Go back, reload, send again.")
    )


def _keys_are_on() -> bool:
    """Tell whether single letters go to pages, as the reader likes it."""
    try:
        return likes_of(page_session(), current_user.user.id).keys
    except SQLAlchemyError:
        return True  # a page that tells of a broken database must not break of it


def _context() -> dict[str, object]:
    user: User | None = current_user.user if current_user.is_authenticated else None
    return {
        "user": user,
        "language": str(choose_language()),
        "languages": LANGUAGES,
        "now": service().store.clock.now(),
        "word": word,
        "field_word": field_word,
        "count_of_bell": waiting.count_of_bell,
        "tabs_of": tabs_of,
        "keys_are_on": _keys_are_on,
        "count_of_notifications": waiting.count_of_notifications,
        "told_words": WORDS["told"],
        "once": sent_once.token_field,
    }
