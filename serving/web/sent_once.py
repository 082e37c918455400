"""Forms that make something: sent twice (pressed twice, reloaded, gone back to), they make it once.

Such a form carries a token. The first transaction of its request takes the token with what the form said,
as the key of a request to the API is taken; whoever sends the same again finds it taken, and is led to where
the first one was. A form that says something else is another one, whatever its token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from contextlib import suppress
from typing import cast

from flask import Flask, Response, flash, g, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from markupsafe import Markup
from sqlalchemy.exc import SQLAlchemyError

from crm_core.errors import CRMError
from crm_core.idempotency import find_kept, keep_answer
from serving.service import FormSent, SentAlreadyError, service
from serving.web.asked import is_own_path
from serving.web.language import gettext

FIELD = "once"
_TOKEN = re.compile(r"[\w-]{8,64}", re.ASCII)
_LOOKS = 10
_PAUSE_SECONDS = 0.1
"""How often, and how far apart, whoever sent a form again looks for where the first one is led to."""


def register(app: Flask) -> None:
    """Have forms with a token be taken once."""
    app.before_request(_notice)
    app.after_request(_note_where)
    app.register_error_handler(SentAlreadyError, _lead_there)


def token_field() -> Markup:
    """Return the hidden field that a form which makes something carries."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, secrets.token_urlsafe(16))


def _notice() -> None:
    if request.method == "POST" and current_user.is_authenticated:
        token = request.form.get(FIELD, "")
        if _TOKEN.fullmatch(token):
            g.form_sent = FormSent(user_id=current_user.user.id, key=f"form {token} {_said()}")


def _said() -> str:
    """Return what tells one sending from another: where it went, and what was filled in."""
    fields = [
        (name, text)
        for name, texts in request.form.lists()
        if name not in {FIELD, "csrf_token"}
        for text in texts
    ]
    files = [(name, str(sent.filename)) for name, sent in request.files.items(multi=True)]
    return hashlib.sha256(repr((request.full_path, sorted(fields), files)).encode()).hexdigest()


def _note_where(response: Response) -> Response:
    """Keep where the first one is led to; of a page that is shown in answer, only that there was one."""
    sent = cast("FormSent | None", g.get("form_sent"))
    if sent is None or not sent.taken:
        return response
    where = {"Location": response.location} if response.location else {}
    # It is done already: that its address could not be kept is no reason to say anything else.
    with (
        suppress(CRMError, SQLAlchemyError),
        service().store.transaction(actor_id=sent.user_id) as transaction,
    ):
        keep_answer(
            transaction.session, sent.user_id, sent.key, status=response.status_code, headers=where, body=None
        )
    return response


def _lead_there(error: SentAlreadyError) -> ResponseReturnValue:
    """Lead whoever sent a form again to where the first one was led to, or back to the form."""
    told = gettext("This was sent already: it is done, once.")
    if request.headers.get("X-Requested-With") == "fetch":
        return Response(told, 409, content_type="text/plain; charset=utf-8")
    flash(told)
    return redirect(_where(error.sent) or _form_path())


def _where(sent: FormSent) -> str | None:
    for _ in range(_LOOKS):  # the first one may be in the middle of its answer
        with service().store.reading() as session:
            kept = find_kept(session, sent.user_id, sent.key)
        if kept is None or kept.status is not None:
            return None if kept is None else (kept.headers or {}).get("Location")
        time.sleep(_PAUSE_SECONDS)
    return None


def _form_path() -> str:
    """Return the page that the form was on, as far as the browser tells and it is ours."""
    root = request.host_url.rstrip("/")
    came_from = (request.referrer or "").removeprefix(root)
    return came_from if is_own_path(came_from) else "/"
