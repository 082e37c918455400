"""Logging in and out, and choosing a language."""

from __future__ import annotations

from flask import (
    Blueprint,
    abort,
    current_app,
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
from crm_core.errors import LoginRefusedError
from crm_core.operations import Done, Operation, Origin, Via, write_operations
from crm_core.records import User
from crm_core.sessions import end_session, end_sessions
from serving.auth import Person, let_in
from serving.journal import origin_of_request
from serving.limits import Standing, place_of
from serving.logins import try_password
from serving.logs import get_log
from serving.oidc import find_vouched
from serving.service import service, writing
from serving.web.asked import is_own_path
from serving.web.language import LANGUAGES, gettext

pages = Blueprint("entry", __name__)

_BEGUN = "login_by_provider"
_log = get_log("serving.logins")


@pages.get("/login")
def show_login() -> ResponseReturnValue:
    """Show the form to log in with."""
    if current_user.is_authenticated:
        return redirect(url_for("web.start"))
    return _show_form("", request.args.get("next", ""))


@pages.post("/login")
def log_in() -> ResponseReturnValue:
    """Log a person in, or say why not."""
    if not service().settings.password_login:
        abort(403)
    email = request.form.get("email", "")
    standing = service().limits.logins.ask(place_of(request.remote_addr), service().store.clock.now())
    if standing is not None and standing.refused:
        return _too_often(email, standing)
    outcome = try_password(
        service().store, email, request.form.get("password", ""), address=request.remote_addr
    )
    if outcome.user is None:
        _log.warning("login refused", locked=outcome.locked)
        refused = (
            gettext("Too many failed attempts. Try again in 15 minutes.")
            if outcome.locked
            else gettext("This address and password do not fit together.")
        )
        shown = _show_form(email, request.form.get("next", ""), refused)
        return make_response(shown, 429 if outcome.locked else 401)
    enter(outcome.user)
    return redirect(_safe(request.form.get("next", "")))


def enter(user: User) -> None:
    """Log a user in, in a session of their own."""
    language = session.get("language")
    session.clear()  # a session that somebody planted before must not become this person's
    if language:
        session["language"] = language
    session.permanent = True
    login_user(let_in(service().store, user, lasts=current_app.permanent_session_lifetime))
    _log.info("logged in", user=user.id)


def _too_often(email: str, standing: Standing) -> ResponseReturnValue:
    refused = gettext("Too many attempts from this address. Try again in a minute.")
    shown = _show_form(email, request.form.get("next", ""), refused)
    return make_response(shown, 429, {"Retry-After": standing.headers()["Retry-After"]})


@pages.get("/login/provider")
def go_to_provider() -> ResponseReturnValue:
    """Send somebody to the identity provider to log in there."""
    running = service()
    if running.settings.oidc_issuer is None:
        abort(404)
    standing = running.limits.logins.ask(place_of(request.remote_addr), running.store.clock.now())
    if standing is not None and standing.refused:
        return _too_often("", standing)
    try:
        begun = running.provider.begin(_way_back())
    except LoginRefusedError as error:
        return _refused_by_provider(error)
    session[_BEGUN] = {**begun.kept, "next": request.args.get("next", "")[:500]}
    return redirect(begun.url)


@pages.get("/login/provider/back")
def come_from_provider() -> ResponseReturnValue:
    """Log in somebody whom the identity provider vouches for."""
    running = service()
    if running.settings.oidc_issuer is None:
        abort(404)
    kept = session.pop(_BEGUN, None)  # whatever comes of it, it was good for one answer
    standing = running.limits.logins.ask(place_of(request.remote_addr), running.store.clock.now())
    if standing is not None and standing.refused:
        return _too_often("", standing)
    try:
        vouched = running.provider.finish(kept, request.args, _way_back())
        user = find_vouched(running.store, vouched, create_role=running.settings.oidc_create_role)
    except LoginRefusedError as error:
        return _refused_by_provider(error)
    _note_login(Done.LOGGED_IN_BY_PROVIDER, user)
    enter(user)
    return redirect(_safe(str(kept["next"]) if kept else ""))


def _refused_by_provider(error: LoginRefusedError) -> ResponseReturnValue:
    # The reason is for the log: whoever came here may be up to something.
    _log.warning("login by provider refused", reason=str(error))
    _note_login(Done.PROVIDER_REFUSED, None)
    refused = gettext("The identity provider did not let you in. Try again, or ask an administrator.")
    return make_response(_show_form("", "", refused), 401)


def _note_login(done: Done, user: User | None) -> None:
    running = service()
    origin = Origin(via=Via.PAGE, user_id=None if user is None else user.id, address=request.remote_addr)
    running.journal.write(Operation(at=running.store.clock.now(), done=done, origin=origin))


def _way_back() -> str:
    base = service().settings.public_url
    path = url_for("entry.come_from_provider")
    return request.host_url.rstrip("/") + path if base is None else base.rstrip("/") + path


def _show_form(email: str, after: str, refused: str | None = None) -> str:
    settings = service().settings
    return render_template(
        "login.html",
        email=email,
        next=after,
        refused=refused,
        by_password=settings.password_login,
        by_provider=settings.oidc_issuer is not None,
    )


@pages.post("/logout")
def log_out() -> ResponseReturnValue:
    """End the session, here and wherever a copy of it is kept."""
    if current_user.is_authenticated:
        _leave(Done.LOGGED_OUT)
    logout_user()
    session.clear()
    flash(gettext("You are logged out."))
    return redirect(url_for("entry.show_login"))


@pages.post("/logout/everywhere")
def log_out_everywhere() -> ResponseReturnValue:
    """End all sessions of the person."""
    _leave(Done.LOGGED_OUT_EVERYWHERE)
    logout_user()
    session.clear()
    flash(gettext("You are logged out everywhere."))
    return redirect(url_for("entry.show_login"))


def _leave(how: Done) -> None:
    person: Person = current_user._get_current_object()  # noqa: SLF001  the only way past the proxy
    origin = origin_of_request(person.user)
    with service().store.transaction() as transaction:
        if how is Done.LOGGED_OUT:
            end_session(transaction.session, person.key)
        else:
            end_sessions(transaction.session, person.user.id)
        write_operations(transaction.session, [Operation(at=transaction.now, done=how, origin=origin)])


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
    return target if is_own_path(target) else url_for("web.start")
