"""The board of deals: by stage, moved by hand, by a menu or by a plain form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.changes import Action, Change, Source
from crm_core.clock import micros
from crm_core.deals import check_required, close_deal
from crm_core.errors import (
    CRMError,
    DealNotOpenError,
    InvalidValueError,
    MissingFieldsError,
    StageNotInPipelineError,
    StaleRecordError,
)
from crm_core.pipelines import PIPELINES, open_stages
from crm_core.records import Account, Deal, Role, User
from crm_core.store import Transaction
from crm_core.won_deals import recent_won_deals
from serving.board import CARDS, MOST_CARDS, AskedBoard, Board, Card, read_board, read_card
from serving.editing import Editor, kind_of
from serving.owners import list_owners
from serving.problems import kind_of as problem_of
from serving.service import page_session, service, writing
from serving.web.language import choose_time_zone, gettext
from serving.web.shown_as import stored_text

WON, LOST = "won", "lost"
"""Where a card goes that leaves the board."""

ACCOUNTS_OFFERED = 300
_ASKED_FOR = ("amount", "currency", "expected_close_on", "account_id", "lost_reason")

pages = Blueprint("board_pages", __name__, url_prefix="/deals/board")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What has to be known before a deal may move: the fields, what was given, and why it is asked."""

    deal: Deal
    stage: str
    version: int
    fields: Sequence[str]
    values: Mapping[str, str]
    accounts: Sequence[tuple[int, str]]
    refused: str | None = None


@pages.get("")
def show() -> ResponseReturnValue:
    """Show the deals that somebody may see, by stage."""
    user = current_user.user
    reader, asked = Reader(page_session(), user), _asked()
    owners = [] if user.role == Role.REP else list_owners(reader.session, user)
    return render_template(
        "board.html", board=_board(reader, asked), asked=asked, owners=owners, **_card_context(owners)
    )


@pages.get("/<int:deal_id>")
def show_card(deal_id: int) -> ResponseReturnValue:
    """Give a card and all totals anew, or nothing while its score is the one that the page has."""
    reader = Reader(page_session(), current_user.user)
    deal = reader.masked(reader.get(Deal, deal_id))
    if (str(micros(deal.scored_at)) if deal.scored_at else "") == request.args.get("seen", ""):
        return make_response("", 204)
    return _card(deal_id, _asked())


@pages.post("/<int:deal_id>/move")
def move(deal_id: int) -> ResponseReturnValue:
    """Move a deal to a stage, or close it; ask for what is missing, and tell who was faster."""
    user, stage = current_user.user, request.form.get("stage", "")
    try:
        with writing(user, Source.REP) as transaction:
            _move(transaction, deal_id, stage)
    except MissingFieldsError as error:
        return _ask(deal_id, stage, error.fields)
    except StaleRecordError:
        return _conflict(deal_id, stage)
    except (InvalidValueError, StageNotInPipelineError) as error:
        asked = [name for name in _ASKED_FOR if name in request.form]
        return _ask(deal_id, stage, asked, refused=str(error)) if asked else _refused(deal_id, error)
    except DealNotOpenError as error:
        return _refused(deal_id, error)
    if _by_script():
        return _card(deal_id, _asked())
    flash(gettext("The deal has moved. Its score follows in a moment."))
    return redirect(url_for("board_pages.show"))


# ------------------------------------------------------------------------------------- moving


def _move(transaction: Transaction, deal_id: int, stage: str) -> None:
    editor, kind = Editor(transaction, current_user.user), kind_of(transaction.session, "deal")
    values = {name: _value(name) for name in _ASKED_FOR if name != "lost_reason" and _given(name)}
    versions = {_version()}
    deal = editor.get_to_write(kind, deal_id, versions)
    if not isinstance(deal, Deal):  # a record of another class cannot come of that kind
        raise TypeError(type(deal))
    if deal.status != "open":
        raise DealNotOpenError(deal.id, deal.status)
    if stage not in {WON, LOST}:
        editor.update(kind, deal_id, {**values, "stage": stage}, versions=versions)
        return
    reason = request.form.get("lost_reason", "").strip()
    if stage == LOST and not reason:
        raise MissingFieldsError(deal.id, LOST, ("lost_reason",))
    editor.reader.check_fields("deal", ("status", "closed_at", "stage" if stage == WON else "lost_reason"))
    if values:
        editor.update(kind, deal_id, values)
    if stage == WON:
        check_required(deal, next(each.key for each in PIPELINES[deal.pipeline] if each.won))
    close_deal(transaction, deal, won=stage == WON, lost_reason=reason or None)


def _given(name: str) -> bool:
    return bool(request.form.get(name, "").strip())


def _version() -> int:
    text = request.form.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidValueError("version", text, "that of the card")
    return int(text)


def _value(name: str) -> Any:  # noqa: ANN401  of the field's type
    """Return what a form says a field is."""
    text = request.form[name].strip()
    try:
        if name == "amount":
            return Decimal(text.replace(",", ""))
        if name == "expected_close_on":
            return date.fromisoformat(text)
        if name == "account_id":
            return int(text)
    except (ValueError, InvalidOperation) as error:
        expected = {"amount": "a number", "expected_close_on": "a day", "account_id": "one of the list"}
        raise InvalidValueError(name, text, expected[name]) from error
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise InvalidValueError(name, text, "the three letters of a currency, as EUR")
    return text.upper()


# ------------------------------------------------------------------------------------- answers


def _ask(deal_id: int, stage: str, fields: Sequence[str], refused: str | None = None) -> ResponseReturnValue:
    """Ask for what is missing: in place, or on a page of its own."""
    reader = Reader(page_session(), current_user.user)
    deal = reader.masked(reader.get(Deal, deal_id))
    asking = Asking(
        deal=deal,
        stage=stage,
        version=deal.version,
        fields=[name for name in _ASKED_FOR if name in fields],
        values=request.form,
        accounts=_accounts(reader) if "account_id" in fields else (),
        refused=refused,
    )
    return _answer("_board_ask.html", 422, asking=asking)


def _conflict(deal_id: int, stage: str) -> ResponseReturnValue:
    """Tell what somebody else has changed meanwhile, and offer to move all the same."""
    reader = Reader(page_session(), current_user.user)
    deal = reader.masked(reader.get(Deal, deal_id))
    return _answer(
        "_board_conflict.html",
        412,
        deal=deal,
        stage=stage,
        changes=_newest_changes(reader, deal_id),
        values={name: request.form[name] for name in _ASKED_FOR if _given(name)},
    )


def _newest_changes(reader: Reader, deal_id: int) -> list[tuple[Change, str, str | None]]:
    """Return what was changed last, all at once: the change, from what to what, and by whom."""
    query = (
        select(Change, User.name)
        .outerjoin(User, User.id == Change.actor_id)
        .where(Change.record_type == "deal", Change.record_id == deal_id, Change.action == Action.UPDATED)
        .order_by(Change.id.desc())
        .limit(10)
    )
    found = [(change, name) for change, name in reader.session.execute(query)]
    return [
        (change, _from_to(change, change.field), name)
        for change, name in found
        if change.recorded_at == found[0][0].recorded_at
        and change.field is not None
        and reader.may_read_field("deal", change.field)
    ]


def _from_to(change: Change, field: str) -> str:
    old, new = (stored_text(field, value, "deal_status") for value in (change.old, change.new))
    return f"{old} → {new}"


def _refused(deal_id: int, error: CRMError) -> ResponseReturnValue:
    status = problem_of(error).status
    if _by_script():
        return make_response(
            str(error), status, {"X-Refused": "text", "Content-Type": "text/plain; charset=utf-8"}
        )
    flash(str(error))
    return redirect(url_for("deals_pages.show", record_id=deal_id))


def _answer(template: str, status: int, **given: object) -> ResponseReturnValue:
    context = {**_card_context(()), **given}
    if _by_script():
        return make_response(render_template(template, **context), status)
    return make_response(render_template("board_ask.html", part=template, **context), status)


def _card(deal_id: int, asked: AskedBoard) -> ResponseReturnValue:
    """Answer with the card of a deal, unless it has left the board, and the figures of all columns."""
    reader, running = Reader(page_session(), current_user.user), service()
    usual, now = recent_won_deals(running.store), running.store.clock.now()
    card: Card | None = read_card(reader, deal_id, now, _zone(), usual)
    board = read_board(reader, asked, now, _zone(), usual, totals_only=True)
    owners = [] if current_user.user.role == Role.REP else list_owners(reader.session, current_user.user)
    return make_response(
        render_template("_board_moved.html", card=card, board=board, **_card_context(owners))
    )


# ------------------------------------------------------------------------------------- reading


def _asked() -> AskedBoard:
    """Return what the address asks for; what makes no sense in it is left out."""
    owner, more = request.args.get("owner", ""), request.args.get("more", "")
    count = request.args.get("cards", "")
    pipeline = request.args.get("pipeline", "default")
    upto = int(count) if count.isascii() and count.isdigit() and len(count) < 5 else CARDS
    is_number = owner.isascii() and owner.isdigit() and len(owner) < 18
    return AskedBoard(
        pipeline=pipeline if pipeline in PIPELINES else "default",
        owner_id=int(owner) if is_number and current_user.user.role != Role.REP else None,
        search=request.args.get("q", "").strip()[:200] or None,
        cards={more: min(max(upto, CARDS), MOST_CARDS)} if more else {},
    )


def _board(reader: Reader, asked: AskedBoard) -> Board:
    running = service()
    now = running.store.clock.now()
    return read_board(reader, asked, now, _zone(), recent_won_deals(running.store))


def _accounts(reader: Reader) -> list[tuple[int, str]]:
    if not reader.may_read_field("account", "name"):
        return []
    query = reader.select(Account).with_only_columns(Account.id, Account.name).order_by(Account.name)
    return [(key, name) for key, name in reader.session.execute(query.limit(ACCOUNTS_OFFERED))]


def _card_context(owners: Sequence[User]) -> dict[str, object]:
    user = current_user.user
    return {
        "may_write": user.role in {Role.REP, Role.MANAGER, Role.ADMIN},
        "names": {owner.id: owner.name for owner in owners},
        "stages_of": open_stages,
        "step": CARDS,
        "most": MOST_CARDS,
    }


def _zone() -> ZoneInfo:
    return ZoneInfo(choose_time_zone())


def _by_script() -> bool:
    return request.headers.get("X-Requested-With") == "fetch"
