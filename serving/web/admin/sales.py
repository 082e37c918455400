"""What is set of selling: our name on quotes, what needs an approval, when to remind of payments."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.errors import InvalidValueError
from crm_core.records import Role, User
from crm_core.sales_settings import SalesSettings, sales_settings
from crm_core.store import Transaction
from serving.journal import origin_of_request
from serving.service import page_session
from serving.set_by_admins import set_sales_as
from serving.web.admin.shelf import page, pages, to, try_to
from serving.web.language import gettext

_ROLES: Final = (Role.REP, Role.MANAGER, Role.ADMIN)
_TEXTS: Final = ("company", "address", "footer")


@pages.get("/sales")
def show_sales() -> str:
    """Show what is set of selling."""
    held = sales_settings(page_session())
    return _show(_typed(held), held.version, None)


@pages.post("/sales")
def set_sales_settings() -> ResponseReturnValue:
    """Set all of it."""

    def act(transaction: Transaction) -> None:
        user: User = current_user.user
        set_sales_as(transaction, user, _wanted(), origin_of_request(user))

    refused = try_to(act)
    if refused is not None:
        version = request.form.get("version", 0, type=int)
        return make_response(_show(request.form, version, refused), 422)
    flash(gettext("Saved. It holds from now on."))
    return redirect(to("show_sales"))


def _typed(held: SalesSettings) -> Mapping[str, str]:
    limits = {
        f"limit_{role}": "" if share is None else f"{(share * 100).normalize():f}"
        for role in _ROLES
        for share in [held.limit_of(role)]
    }
    days = ", ".join(map(str, held.reminder_days))
    return {**{name: getattr(held, name) for name in _TEXTS}, **limits, "reminder_days": days}


def _wanted() -> SalesSettings:
    said = {str(role): _limit(f"limit_{role}") for role in _ROLES}
    limits = {role: share for role, share in said.items() if share is not None}
    return SalesSettings(
        **{name: request.form.get(name, "") for name in _TEXTS},
        limits=limits,
        reminder_days=_days(),
        version=request.form.get("version", -1, type=int),
    )


def _limit(name: str) -> Decimal | None:
    text = request.form.get(name, "").strip().removesuffix("%").strip()
    if not text:
        return None
    try:
        percent = Decimal(text)
    except InvalidOperation as error:
        raise InvalidValueError(name, text, "a percentage") from error
    if not percent.is_finite() or not 0 <= percent <= 100:
        raise InvalidValueError(name, text, "a percentage from 0 to 100")
    return percent / 100


def _days() -> tuple[int, ...]:
    words = request.form.get("reminder_days", "").replace("\uff0c", ",").split(",")
    said = [word.strip() for word in words if word.strip()]
    if any(not (word.isascii() and word.isdigit() and len(word) < 6) for word in said):
        raise InvalidValueError("reminder_days", ", ".join(said), "numbers of days, with commas between")
    return tuple(int(word) for word in said)


def _show(typed: Mapping[str, str], version: int, refused: str | None) -> str:
    return page("sales.html", typed=typed, version=version, refused=refused)
