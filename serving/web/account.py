"""The page of one's own profile, password, keys of both kinds, and logins."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flask import Blueprint, current_app, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user

from crm_core.changes import Source
from crm_core.errors import CRMError, InvalidValueError
from crm_core.operations import Done, Operation, write_operations
from crm_core.records import User
from crm_core.saved import set_keys
from crm_core.sessions import end_session_of, list_logins
from crm_core.store import Transaction
from crm_core.tokens import (
    LONGEST_NAME,
    Scope,
    Token,
    has_ended,
    issue_token,
    list_tokens,
    revoke_token,
    scopes_of,
)
from crm_core.working_time import list_absences
from serving.auth import SHORTEST_PASSWORD, let_in, set_password
from serving.journal import origin_of_request
from serving.logins import try_password
from serving.mail import mail_is_on
from serving.own_settings import set_own, time_zones
from serving.service import page_session, service, writing
from serving.web.absences import change_absence
from serving.web.asked import whole
from serving.web.language import LANGUAGES, gettext
from serving.web.refusals import refusal

pages = Blueprint("account", __name__)

LASTING = (30, 90, 365, 0)
"""Days for which a key may be made; 0 is until it is revoked."""


@pages.get("/account")
def show_account() -> str:
    """Show one's own keys, and how to end all logins."""
    return _show()


@pages.post("/account/keys")
def make_key() -> ResponseReturnValue:
    """Make a key and show it, this one time."""
    name = request.form.get("name", "").strip()
    scopes = [scope for scope in Scope if scope.value in request.form.getlist("scope")]
    days = request.form.get("days", type=whole)
    if days not in LASTING or not 0 < len(name) <= LONGEST_NAME or not scopes:
        return _show(refused=gettext("A key needs a name, and something that it may be used for.")), 422
    user: User = current_user.user
    try:
        with writing(user, Source.REP) as transaction:
            ends = transaction.now + timedelta(days=days) if days else None
            made = issue_token(
                transaction.session,
                user_id=user.id,
                name=name,
                now=transaction.now,
                expires_at=ends,
                scopes=scopes,
            )
            _note(transaction, Done.TOKEN_MADE, made.token)
    except InvalidValueError as error:
        return _show(refused=refusal(error)), 422
    return _show(key=made.key)


@pages.post("/account/keys/<int:key_id>/revoke")
def revoke_key(key_id: int) -> ResponseReturnValue:
    """End one of one's own keys."""
    user: User = current_user.user
    with writing(user, Source.REP) as transaction:
        ended = revoke_token(transaction.session, key_id, now=transaction.now, user_id=user.id)
        _note(transaction, Done.TOKEN_REVOKED, ended)
    flash(gettext("The key is revoked."))
    return redirect(url_for("account.show_account"))


@pages.post("/account/profile")
def save_profile() -> ResponseReturnValue:
    """Keep one's own name, language and time zone."""
    user: User = current_user.user
    name, language = request.form.get("name", "").strip(), request.form.get("language", "")
    zone = request.form.get("time_zone", "")
    if not name or language not in LANGUAGES or zone not in time_zones():
        return _show(refused=gettext("A name, a language and a time zone of the list are needed.")), 422
    try:
        with writing(user, Source.REP) as transaction:
            set_own(transaction, user, {"name": name, "language": language, "time_zone": zone})
    except CRMError as error:
        return _show(refused=refusal(error)), 422
    session["language"] = language
    flash(gettext("Kept."))
    return redirect(url_for("account.show_account"))


@pages.post("/account/absences")
def save_absence() -> ResponseReturnValue:
    """Note when one is away, or take it back."""
    user: User = current_user.user
    try:
        with writing(user, Source.REP) as transaction:
            change_absence(transaction, user.id, request.form)
    except InvalidValueError as error:
        return _show(refused=refusal(error)), 422
    flash(gettext("Saved."))
    return redirect(url_for("account.show_account", _anchor="absences"))


@pages.post("/account/password")
def change_password() -> ResponseReturnValue:
    """Set one's own password; all other logins end."""
    running, user, person = service(), current_user.user, current_user
    old, new = request.form.get("old", ""), request.form.get("new", "")
    if not running.settings.password_login:
        return _show(refused=gettext("Passwords are kept by your identity provider.")), 422
    outcome = try_password(running.store, user.email or "", old, address=request.remote_addr)
    if outcome.user is None or outcome.user.id != user.id:
        return _show(refused=gettext("The present password does not fit.")), 422
    if new != request.form.get("again"):
        return _show(refused=gettext("The two new passwords differ.")), 422
    try:
        with writing(user, Source.REP) as transaction:
            set_password(transaction.session, user.id, new)
    except InvalidValueError as error:
        return _show(refused=refusal(error)), 422
    login_user(let_in(running.store, person.user, lasts=current_app.permanent_session_lifetime))
    flash(gettext("The password is changed; all other logins have ended."))
    return redirect(url_for("account.show_account"))


@pages.post("/account/keyboard")
def choose_keys() -> ResponseReturnValue:
    """Turn the letters that go to pages on or off."""
    user: User = current_user.user
    with writing(user, Source.REP) as transaction:
        set_keys(transaction.session, user.id, on=request.form.get("on") == "yes")
    flash(gettext("Kept."))
    return redirect(url_for("account.show_account", _anchor="keyboard"))


@pages.post("/account/logins/<int:login_id>/end")
def end_login(login_id: int) -> ResponseReturnValue:
    """End one of one's own logins."""
    user: User = current_user.user
    with writing(user, Source.REP) as transaction:
        end_session_of(transaction.session, user.id, login_id)
    flash(gettext("The login has ended."))
    return redirect(url_for("account.show_account", _anchor="logins"))


def _note(transaction: Transaction, done: Done, token: Token) -> None:
    origin = replace(origin_of_request(current_user.user), token_id=token.id)
    write_operations(transaction.session, [Operation(at=transaction.now, done=done, origin=origin)])


def _show(*, key: str | None = None, refused: str | None = None) -> str:
    now = service().store.clock.now()
    keys = [
        {
            "token": token,
            "scopes": [scope for scope in Scope if scope in scopes_of(token)],
            "ended": has_ended(token, now),
        }
        for token in list_tokens(page_session(), user_id=current_user.user.id)
    ]
    user, running = current_user.user, service()
    return render_template(
        "account.html",
        keys=keys,
        key=key,
        refused=refused,
        scopes=list(Scope),
        lasting=LASTING,
        zones=time_zones(),
        zone=user.time_zone or running.settings.time_zone,
        by_password=running.settings.password_login and user.password_hash is not None,
        shortest=SHORTEST_PASSWORD,
        logins=list_logins(
            page_session(), user.id, current_user.key, now=now, lasts=current_app.permanent_session_lifetime
        ),
        mail_on=mail_is_on(running.settings),
        away=list_absences(page_session(), user.id),
        away_path=url_for("account.save_absence"),
    )
