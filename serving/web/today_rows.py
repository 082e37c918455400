"""What the page of a day shows of each record: its score and history, reasons, contacts and next step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    Text,
    and_,
    cast,
    literal,
    null,
    or_,
    select,
    type_coerce,
    union_all,
)

from crm_core.access import Reader
from crm_core.clock import micros
from crm_core.columns import Money
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal, User
from serving.today import MODELS, Day, Ranked, Scored
from serving.web import reasons, sparkline
from serving.web.records import CUSTOMERS, DEALS, DIFFERENT, LEADS, Before, Kind

KINDS: dict[str, Kind] = {kind.record_type: kind for kind in (LEADS, DEALS, CUSTOMERS)}
REASONS_IN_A_ROW = 2
HISTORY = timedelta(days=60)

Key = tuple[str, int]
Histories = Mapping[Key, Sequence[tuple[datetime, float | None]]]
"""What was said of each record and as of when, oldest first."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the day; `yesterday` is what was said before today began, where it was something else."""

    ranked: Ranked
    kind: Kind
    record: Scored
    reasons: Sequence[reasons.Reason]
    before: Before | None
    line: sparkline.Thumb | None
    account: str | None
    owner: str | None
    currency: str

    @property
    def seen(self) -> int | str:
        """What tells this score from the next one."""
        return micros(self.record.scored_at) if self.record.scored_at else ""

    @property
    def name(self) -> str | None:
        """What it is called."""
        record: Any = self.record
        found = record.company or record.name or record.email if self.kind is LEADS else record.name
        return None if found is None else str(found)


def read_rows(
    reader: Reader,
    day: Day,
    shown: Sequence[Ranked],
    owners: Mapping[int | None, str],
    now: datetime,
    *,
    histories: Histories | None = None,
) -> list[Row]:
    """Return the lines of records of a day in their order; `histories` are read unless they are known."""
    ids: dict[str, list[int]] = defaultdict(list)
    for ranked in shown:
        ids[ranked.record[0]].append(ranked.record[1])
    found = _read(reader, ids)
    if histories is None:
        histories = _read_histories(reader, ids, now)
    rows = (_row(ranked, found.get(ranked.record), histories, owners, day.currency) for ranked in shown)
    return [row for row in rows if row is not None]


_SCORE = ("owner_id", "probability", "score", "grade", "reasons", "scored_at", "model_version")
_TEXTS: dict[str, tuple[str, ...]] = {
    "lead": ("name", "company", "email", "source"),
    "deal": ("name", "stage", "currency"),
    "account": ("name", "industry", "region"),
}
"""What is shown of each type, besides the score."""
_MOST_TEXTS = max(map(len, _TEXTS.values()))


def _read(reader: Reader, ids: Mapping[str, Sequence[int]]) -> dict[Key, tuple[Scored, str | None]]:
    """Return what may be seen of records, and the name of a deal's customer, in one query."""
    if not ids:
        return {}
    query: Any = union_all(*(_select(reader, name, some) for name, some in ids.items()))
    named = reader.may_read_field("account", "name") and reader.may_read_field("deal", "account_id")
    found = {}
    for record_type, record_id, account_id, account, amount, *rest in reader.session.execute(query):
        texts, scores = rest[:_MOST_TEXTS], rest[_MOST_TEXTS:]
        values = dict(
            zip((*_TEXTS[record_type], *_SCORE), (*texts[: len(_TEXTS[record_type])], *scores), strict=True)
        )
        if record_type == "deal":
            values |= {"amount": amount, "account_id": account_id}
        record = reader.masked(MODELS[record_type](id=record_id, **values))
        found[record_type, record_id] = (record, account if named else None)
    return found


def _select(reader: Reader, record_type: str, ids: Sequence[int]) -> Select[*tuple[Any, ...]]:
    model: Any = MODELS[record_type]
    texts = [getattr(model, name) for name in _TEXTS[record_type]]
    texts += [cast(null(), Text)] * (_MOST_TEXTS - len(texts))
    is_deal = model is Deal
    columns = (
        literal(record_type).label("type"),
        model.id,
        (Deal.account_id if is_deal else cast(null(), BigInteger)).label("account_id"),
        (Account.name if is_deal else cast(null(), Text)).label("account"),
        (Deal.amount if is_deal else type_coerce(cast(null(), BigInteger), Money)).label("amount"),
        *(text.label(f"text_{place}") for place, text in enumerate(texts)),
        *(getattr(model, name) for name in _SCORE),
    )
    query = select(*columns)
    if is_deal:
        seen = and_(Account.id == Deal.account_id, Account.deleted_at.is_(None), reader.readable(Account))
        query = query.outerjoin(Account, seen)
    return query.where(model.id.in_(ids), model.deleted_at.is_(None), reader.readable(model))


def _read_histories(
    reader: Reader, ids: Mapping[str, Sequence[int]], now: datetime
) -> dict[Key, list[tuple[datetime, float | None]]]:
    """Return what was said of each lately, oldest first, in one query."""
    about = [
        and_(Prediction.record_type == name, Prediction.record_id.in_(some)) for name, some in ids.items()
    ]
    if not about:
        return {}
    query = (
        select(Prediction.record_type, Prediction.record_id, Prediction.as_of, Prediction.probability)
        .where(or_(*about), Prediction.as_of >= now - HISTORY)
        .order_by(Prediction.as_of, Prediction.id)
    )
    found: dict[Key, list[tuple[datetime, float | None]]] = defaultdict(list)
    for name, record_id, as_of, probability in reader.session.execute(query):
        found[name, record_id].append((as_of, probability))
    return found


def _row(
    ranked: Ranked,
    found: tuple[Scored, str | None] | None,
    histories: Mapping[Key, Sequence[tuple[datetime, float | None]]],
    owners: Mapping[int | None, str],
    currency: str,
) -> Row | None:
    if found is None:
        return None
    record, account = found
    history = histories.get(ranked.record, ())
    return Row(
        ranked=ranked,
        kind=KINDS[ranked.record[0]],
        record=record,
        reasons=reasons.top_reasons(record.reasons, REASONS_IN_A_ROW),
        before=_before(history, record.probability),
        line=sparkline.thumb(history),
        account=account,
        owner=owners.get(record.owner_id),
        currency=currency,
    )


def _before(history: Sequence[tuple[datetime, float | None]], probability: float | None) -> Before | None:
    """Return the last prediction that said something else."""
    if probability is None:
        return None
    for as_of, said in reversed(history):
        if said is not None and abs(said - probability) >= DIFFERENT:
            return Before(probability=said, as_of=as_of)
    return None


def names_of(people: Sequence[User]) -> dict[int | None, str]:
    """Return people's names by their ids."""
    return {user.id: user.name for user in people}
