"""Everybody's API keys: what they are for, when they were used, and their end."""

from __future__ import annotations

from flask import flash, redirect, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from crm_core.operations import Done
from crm_core.records import User
from crm_core.store import Transaction
from crm_core.tokens import Scope, has_ended, list_tokens, revoke_token, scopes_of
from serving.service import page_session, service
from serving.web.admin.shelf import ROWS, note, page, pages, to, try_to
from serving.web.asked import whole
from serving.web.language import gettext


@pages.get("/keys")
def list_keys() -> str:
    """List everybody's keys, newest first."""
    session, now = page_session(), service().store.clock.now()
    whose = request.args.get("user", type=whole)
    found = list_tokens(session, user_id=whose, before=request.args.get("before", type=whole), limit=ROWS + 1)
    keys = [
        {
            "token": token,
            "scopes": [scope for scope in Scope if scope in scopes_of(token)],
            "ended": has_ended(token, now),
        }
        for token in found[:ROWS]
    ]
    people = {user.id: user for user in session.scalars(select(User).order_by(User.name, User.id))}
    before = found[ROWS - 1].id if len(found) > ROWS else None
    return page("keys.html", keys=keys, people=people, whose=whose, before=before)


@pages.post("/keys/<int:key_id>/revoke")
def revoke(key_id: int) -> ResponseReturnValue:
    """End somebody's key for good."""

    def act(transaction: Transaction) -> None:
        ended = revoke_token(transaction.session, key_id, now=transaction.now)
        note(transaction, Done.TOKEN_REVOKED, token_id=ended.id)

    refused = try_to(act)
    flash(refused or gettext("The key is revoked."))
    return redirect(to("list_keys"))
