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
    ChecklistOpenError,
    CRMError,
    DealNotOpenError,
    InvalidValueError,
    MissingFieldsError,
    StageNotInPipelineError,
    StaleRecordError,
)
from crm_core.pipelines import PIPELINES, Stage
from crm_core.records import Account, Deal, Role, User
from crm_core.stage_settings import stage_of, stages_of
from crm_core.store import Transaction
from crm_core.won_deals import recent_won_deals
from serving.board import CARDS, MOST_CARDS, AskedBoard, Board, Card, read_board, read_card
from serving.editing import Editor, Kind, kind_of
from serving.owners import list_owners
from serving.problems import kind_of as problem_of
from serving.service import page_session, service, writing
from serving.web.facts import (
    Fact,
    NotReadableError,
    as_sent,
    labels_of,
    names_of_people,
    read_facts,
    read_typed,
)
from serving.web.happened import Happening, tell_changes
from serving.web.language import choose_time_zone, gettext
from serving.web.record_views import is_score_followed, score_as_before
from serving.web.refusals import refusal

WON, LOST = "won", "lost"
"""Where a card goes that leaves the board."""

ACCOUNTS_OFFERED = 300
_ASKED_FOR = ("amount", "currency", "expected_close_on", "account_id", "lost_reason")
"""Fields that the form has inputs of its own for; others are asked for as on the page of a record."""

pages = Blueprint("board_pages", __name__, url_prefix="/deals/board")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What has to be known before a deal may move: the fields, what was given, and why it is asked.

    `facts` are the fields that have no input of their own here, `beyond` what those needed are called that
    whoever moves the deal may not fill. `back` says that they came from the page of the deal.
    """

    deal: Deal
    stage: str
    version: int
    fields: Sequence[str]
    facts: Sequence[Fact]
    beyond: Sequence[str]
    values: Mapping[str, str]
    accounts: Sequence[tuple[int, str]]
    owners: Sequence[User]
    note: str | None = None
    refused: str | None = None
    back: bool = False


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
    followed = is_score_followed("deal", deal_id)  # before the score is read
    reader = Reader(page_session(), current_user.user)
    deal = reader.masked(reader.get(Deal, deal_id))
    if (str(micros(deal.scored_at)) if deal.scored_at else "") == request.args.get("seen", ""):
        return score_as_before(final=followed)
    return _card(deal_id, _asked())


@pages.post("/<int:deal_id>/move")
def move(deal_id: int) -> ResponseReturnValue:
    """Move a deal to a stage, or close it; ask for what is missing, and tell who was faster."""
    user, stage = current_user.user, request.form.get("stage", "")
    try:
        with writing(user, Source.REP) as transaction:
            _move(transaction, deal_id, stage)
    except MissingFieldsError as error:
        return ask(deal_id, stage, error.fields)
    except StaleRecordError:
        return _conflict(deal_id, stage)
    except (InvalidValueError, StageNotInPipelineError, NotReadableError) as error:
        return _ask_again(deal_id, stage, error)
    except (DealNotOpenError, ChecklistOpenError) as error:
        return _refused(deal_id, error)
    return _moved(deal_id)


def _moved(deal_id: int) -> ResponseReturnValue:
    """Give the card anew, or go back to where the deal was moved from."""
    if _by_script():
        return _card(deal_id, _asked())
    flash(gettext("The deal has moved. Its score follows in a moment."))
    if _from_deal():
        return redirect(url_for("deals_pages.show", record_id=deal_id))
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
    values |= _further(editor.reader, kind, deal, stage)
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
        check_required(transaction.session, deal, _stage_key(deal, stage))
    close_deal(transaction, deal, won=stage == WON, lost_reason=reason or None)


def _stage_key(deal: Deal, stage: str) -> str:
    """Return the key of the stage that a deal goes to; a deal that is won enters the first won one."""
    return next(each.key for each in PIPELINES[deal.pipeline] if each.won) if stage == WON else stage


def _further(reader: Reader, kind: Kind, deal: Deal, stage: str) -> dict[str, Any]:
    """Return what was given of the fields that the stage requires beyond the usual ones."""
    if stage == LOST:
        return {}
    required = stage_of(reader.session, deal.pipeline, _stage_key(deal, stage)).required
    names = [name for name in required if name not in _ASKED_FOR and _given(name)]
    facts = _facts(reader, kind, deal, names) if names else []
    return as_sent(facts, {fact.name: _read(reader, fact) for fact in facts})


def _read(reader: Reader, fact: Fact) -> Any:  # noqa: ANN401  any value
    try:
        return read_typed(reader, fact, request.form[fact.name])
    except NotReadableError as error:
        raise NotReadableError(f"{fact.label}: {error}") from error


def _facts(reader: Reader, kind: Kind, deal: Deal, names: Sequence[str]) -> list[Fact]:
    """Return the fields of a deal that the reader may fill, of those that are named."""
    facts = read_facts(reader, kind, deal, names_of_people(reader.session), with_currency=True)
    return [fact for fact in facts if fact.name in names and fact.editable]


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


def ask(
    deal_id: int, stage: str, fields: Sequence[str], refused: str | None = None, *, back: bool = False
) -> ResponseReturnValue:
    """Ask for what is missing: in place, or on a page of its own; `back` leads to the page of the deal."""
    reader = Reader(page_session(), current_user.user)
    deal = reader.get(Deal, deal_id)
    further = [name for name in fields if name not in _ASKED_FOR]
    facts = _facts(reader, kind_of(reader.session, "deal"), deal, further) if further else []
    fillable = {fact.name for fact in facts} | {
        name for name in _ASKED_FOR if reader.may_write_field("deal", name)
    }
    asking = Asking(
        deal=reader.masked(deal),
        stage=stage,
        version=deal.version,
        fields=[name for name in _ASKED_FOR if name in fields and name in fillable],
        facts=facts,
        beyond=labels_of(reader.session, "deal", [name for name in fields if name not in fillable]),
        values=request.form,
        accounts=_accounts(reader) if "account_id" in fields else (),
        owners=list_owners(reader.session, reader.user) if "owner_id" in further else (),
        note=_note(reader, deal, stage),
        refused=refused,
        back=back or _from_deal(),
    )
    return _answer("_board_ask.html", 422, asking=asking, deal=asking.deal, back=asking.back)


def _note(reader: Reader, deal: Deal, stage: str) -> str | None:
    """Return what an administrator says of the stage that a deal goes to, to whoever moves one there."""
    key = _stage_key(deal, stage)
    return next((each.note for each in stages_of(reader.session, deal.pipeline) if each.key == key), None)


def _ask_again(deal_id: int, stage: str, error: Exception) -> ResponseReturnValue:
    """Ask once more for what was asked and given wrongly; refuse what nobody was asked for."""
    names = [name for name in _may_be_asked(deal_id, stage) if name in request.form]
    if names:
        return ask(deal_id, stage, names, refused=refusal(error))
    return _refused(deal_id, error)


def _may_be_asked(deal_id: int, stage: str) -> list[str]:
    session = page_session()
    deal = Reader(session, current_user.user).get(Deal, deal_id, only=("id", "pipeline"))
    known = {each.key: each.required for each in stages_of(session, deal.pipeline)}
    return list(dict.fromkeys((*_ASKED_FOR, *known.get(_stage_key(deal, stage), ()))))


def _from_deal() -> bool:
    return request.form.get("back") == "deal"


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
        values={name: request.form[name] for name in _may_be_asked(deal_id, stage) if _given(name)},
        back=_from_deal(),
    )


def _newest_changes(reader: Reader, deal_id: int) -> list[Happening]:
    """Return what was changed last, all at once, and by whom."""
    query = (
        select(Change)
        .where(Change.record_type == "deal", Change.record_id == deal_id, Change.action == Action.UPDATED)
        .order_by(Change.id.desc())
        .limit(10)
    )
    found = reader.session.scalars(query).all()
    seen = [
        change
        for change in found
        if change.recorded_at == found[0].recorded_at
        and change.field is not None
        and reader.may_read_field("deal", change.field)
    ]
    return tell_changes(reader, kind_of(reader.session, "deal"), seen)


def _refused(deal_id: int, error: Exception) -> ResponseReturnValue:
    status = problem_of(error).status if isinstance(error, CRMError) else 422
    if _by_script():
        return make_response(
            refusal(error), status, {"X-Refused": "text", "Content-Type": "text/plain; charset=utf-8"}
        )
    flash(refusal(error))
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
        "stages_of": _open_stages,
        "step": CARDS,
        "most": MOST_CARDS,
    }


def _open_stages(pipeline: str) -> list[Stage]:
    return [stage for stage in stages_of(page_session(), pipeline) if not stage.won]


def _zone() -> ZoneInfo:
    return ZoneInfo(choose_time_zone())


def _by_script() -> bool:
    return request.headers.get("X-Requested-With") == "fetch"
