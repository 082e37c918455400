"""Logging in and out, and choosing a language."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import (
    Blueprint,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user, logout_user

from crm_core.changes import Source
from crm_core.records import User
from serving.auth import Person
from serving.limits import Standing
from serving.logins import try_password
from serving.logs import get_log
from serving.service import service, writing
from serving.web.language import LANGUAGES, gettext

pages = Blueprint("entry", __name__)

_log = get_log("serving.logins")


@pages.get("/login")
def show_login() -> ResponseReturnValue:
    """Show the form to log in with."""
    if current_user.is_authenticated:
        return redirect(url_for("web.start"))
    return render_template("login.html", email="", next=request.args.get("next", ""))


@pages.post("/login")
def log_in() -> ResponseReturnValue:
    """Log a person in, or say why not."""
    email = request.form.get("email", "")
    standing = service().limits.logins.ask(request.remote_addr, service().store.clock.now())
    if standing is not None and standing.refused:
        return _too_often(email, standing)
    outcome = try_password(service().store, email, request.form.get("password", ""))
    if outcome.user is None:
        _log.warning("login refused", locked=outcome.locked)
        refused = (
            gettext("Too many failed attempts. Try again in 15 minutes.")
            if outcome.locked
            else gettext("This address and password do not fit together.")
        )
        shown = render_template("login.html", email=email, next=request.form.get("next", ""), refused=refused)
        return make_response(shown, 429 if outcome.locked else 401)
    language = session.get("language")
    session.clear()  # a session that somebody planted before must not become this person's
    if language:
        session["language"] = language
    session.permanent = True
    login_user(Person(outcome.user))
    _log.info("logged in", user=outcome.user.id)
    return redirect(_safe(request.form.get("next", "")))


def _too_often(email: str, standing: Standing) -> ResponseReturnValue:
    refused = gettext("Too many attempts from this address. Try again in a minute.")
    shown = render_template("login.html", email=email, next=request.form.get("next", ""), refused=refused)
    return make_response(shown, 429, {"Retry-After": standing.headers()["Retry-After"]})


@pages.post("/logout")
def log_out() -> ResponseReturnValue:
    """End the session."""
    logout_user()
    session.clear()
    flash(gettext("You are logged out."))
    return redirect(url_for("entry.show_login"))


@pages.post("/language")
def choose_language() -> ResponseReturnValue:
    """Keep the language that a person chose."""
    language = request.form.get("language", "")
    if language in LANGUAGES:
        session["language"] = language
        if current_user.is_authenticated and current_user.user.language != language:
            with writing(current_user.user, Source.REP) as transaction:
                transaction.update(transaction.get(User, current_user.user.id), {"language": language})
    return redirect(_safe(request.form.get("next", "")))


def _safe(target: str) -> str:
    """Return where to go on: a path of our own, never another site."""
    parts = urlsplit(target)
    own = (
        target.startswith("/")
        and not target.startswith(("//", "/\\"))
        and not parts.scheme
        and not parts.netloc
    )
    return target if own and "\\" not in target and target.isprintable() else url_for("web.start")
