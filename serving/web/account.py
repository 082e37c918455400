"""The page of one's own API keys and logins."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from crm_core.operations import Done, Operation, write_operations
from crm_core.records import User
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
from serving.journal import origin_of_request
from serving.service import page_session, service, writing
from serving.web.language import gettext

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
    days = request.form.get("days", type=int)
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
        return _show(refused=str(error)), 422
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
    return render_template(
        "account.html", keys=keys, key=key, refused=refused, scopes=list(Scope), lasting=LASTING
    )
