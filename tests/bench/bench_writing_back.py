"""Writing scores back, history rows and the records' own columns, on both databases.

A million leads that have a score get the next one. Ours beside SQLAlchemy as it is meant to be used for much
at once: ORM bulk insert and bulk update by primary key (`session.execute(insert(...), rows)` and
`session.execute(update(...), rows)`), and, marked `core`, Core's executemany. All three have the same rows in
memory, the texts of the reasons put together, write them in the same lots, each in a transaction of its own,
and leave the same behind, the probability before and the trend included: Core computes those in its statement
as ours does, the ORM, which cannot, reads the probabilities of a lot first. The peers' tables are plain ones
without the types that the store converts with. Ours alone leaves out who asked not to be scored, and answers
that are there already.

Reasons are two of the usual twenty, 330 bytes, which all sides store as they are. `explained` has all of
them: 5 kB of JSON, or 0.9 kB packed as the product makes them for many records, in place of the text. There
the peers once write the JSON, as whoever has no packing does, and once, marked `packed`, the same bytes as
ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import (
    BigInteger,
    Float,
    Integer,
    LargeBinary,
    String,
    Text,
    bindparam,
    case,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from crm_core.changes import Source
from crm_core.clock import FixedClock, micros
from crm_core.packing import _words, pack_reason, pack_reasons, pack_words
from crm_core.predictions import write_prediction_columns
from crm_core.records import Lead
from crm_core.store import Store
from crm_core.writing_back import FLAT, PredictionColumns
from tests.bench.bench_bulk import Databases, databases
from tests.bench.harness import Aspect, Benchmark, Contest, SidesDisagreeError, seconds

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SCORES = 1_000_000
EXPLAINED = 100_000
DIFFERENT = 2_000
"""Texts of reasons that are drawn from; nothing remembers one."""

LOT = 4_096
"""Rows of a lot: what a rescore has on a disk that keeps up."""

TASK, VERSION = "lead_scoring", "lead_scoring-1-00000000"


class Plain(DeclarativeBase):
    """The peers' tables."""


Stored = LargeBinary().with_variant(Text(), "sqlite")
"""The type of reasons; SQLite takes bytes there too."""


class History(Plain):
    """The history of predictions."""

    __tablename__ = "predictions"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    task: Mapped[str] = mapped_column(String)
    record_type: Mapped[str] = mapped_column(String)
    record_id: Mapped[int] = mapped_column(BigInteger)
    as_of: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[int] = mapped_column(BigInteger)
    model_version: Mapped[str] = mapped_column(String)
    horizon_days: Mapped[int] = mapped_column(Integer)
    probability: Mapped[float] = mapped_column(Float)
    score: Mapped[int] = mapped_column(Integer)
    grade: Mapped[str] = mapped_column(String)
    reasons: Mapped[bytes] = mapped_column(Stored)
    within: Mapped[str] = mapped_column(Text)
    expected_days: Mapped[float] = mapped_column(Float)


class Shown(Plain):
    """The score columns of leads."""

    __tablename__ = "leads"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    probability: Mapped[float] = mapped_column(Float)
    previous_probability: Mapped[float] = mapped_column(Float)
    score: Mapped[int] = mapped_column(Integer)
    grade: Mapped[str] = mapped_column(String)
    trend: Mapped[str | None] = mapped_column(String)
    reasons: Mapped[bytes] = mapped_column(Stored)
    scored_at: Mapped[int] = mapped_column(BigInteger)
    model_version: Mapped[str] = mapped_column(String)


def columns_of_scores(
    size: int, *, seed: int, explained: bool = False, packed: bool = True
) -> PredictionColumns:
    """Return scores of the leads from 1 on, their reasons packed or as JSON."""
    drawn = np.random.default_rng(seed)
    probability = drawn.random(size)
    short = [_reasons(count).encode() for count in range(30)]
    said = _explained(drawn, packed=packed) if explained else short
    chosen = drawn.integers(0, len(said), size).tolist()
    nothing = [None] * size
    return PredictionColumns(
        record_id=list(range(1, size + 1)),
        horizon_days=[90] * size,
        probability=probability.tolist(),
        score=(probability * 100).astype(int).tolist(),
        grade=["DCBA"[int(each * 4)] for each in probability.tolist()],
        reasons=[said[each] for each in chosen],
        within=[f'{{"180":{each!r},"90":{each!r}}}' for each in probability.tolist()],
        expected_days=(probability * 90).tolist(),
        yearly_value=nothing,
        cause_change_id=nothing,
    )


def _reasons(calls: int) -> str:
    told = [
        {
            "group": "calls",
            "feature": "calls_count_30d",
            "fields": ["activity.kind", "activity.occurred_at"],
            "value": float(calls),
            "log_odds": calls / 40 - 0.3,
            "en": f"{calls} calls in the last 30 days",
            "zh": f"近 30 天 {calls} 次通话",
        },
        {
            "group": "source",
            "feature": "source",
            "fields": ["lead.source"],
            "value": "web form",
            "log_odds": 0.125,
            "en": "source: web form",
            "zh": "来源：网页表单",
        },
    ]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _explained(drawn: np.random.Generator, *, packed: bool) -> list[bytes]:
    """Return twenty reasons each: the words are a model's, all numbers differ."""
    forms = [
        line for line in _words().decode().splitlines() if line.startswith('{"en"') and '"feature"' in line
    ]
    told = []
    for _ in range(DIFFERENT):
        some = drawn.choice(len(forms), 20, replace=False).tolist()
        reasons = [_with_numbers(forms[each], drawn) for each in some]
        told.append(pack_reasons(map(_packed, reasons)) if packed else f"[{','.join(reasons)}]".encode())
    return told


def _with_numbers(form: str, drawn: np.random.Generator) -> str:
    """Return a reason with numbers of its own where the form leaves them out."""
    told = re.sub(r"(?<= )\d+(?= )", str(drawn.integers(2, 400)), form)
    told = re.sub(r'(?<="log_odds":)[^,]+', repr(drawn.normal()), told)
    told = re.sub(r'(?<="usual":)[^,n]*(?=,)', f"{drawn.integers(1, 99)}.5", told)
    return re.sub(r'(?<="value":)[^,n"]*(?=,)', f"{drawn.integers(0, 400)}.0", told)


def _packed(reason: str) -> bytes:
    """Return a reason as the store has it."""
    before, rest = reason.split('"log_odds":')
    log_odds, rest = rest.split(",", 1)
    middle, rest = rest.split('"value":')
    value, after = rest.split(',"zh"')
    return pack_reason(
        pack_words(f'{before}"log_odds":', f',{middle}"value":', f',"zh"{after}'),
        float(log_odds),
        value.encode(),
    )


def lots(columns: PredictionColumns) -> Iterator[PredictionColumns]:
    """Yield the columns lot by lot."""
    for start in range(0, len(columns), LOT):
        yield columns.part(start, start + LOT)


def write_ours(store: Store, columns: PredictionColumns, as_of: datetime) -> None:
    """Write lots as the product does."""
    for lot in lots(columns):
        with store.transaction(source=Source.MODEL) as transaction:
            write_prediction_columns(
                transaction, task=TASK, record_type="lead", as_of=as_of, model_version=VERSION, columns=lot
            )


_ONLY_OURS = ("yearly_value", "cause_change_id")


def history_rows(lot: PredictionColumns, as_of: datetime) -> list[dict[str, Any]]:
    """Return the rows of a lot's history."""
    common = {
        "task": TASK,
        "record_type": "lead",
        "as_of": micros(as_of),
        "recorded_at": micros(NOW),
        "model_version": VERSION,
    }
    lists = {name: cells for name, cells in lot.lists().items() if name not in _ONLY_OURS}
    return [{**common, **dict(zip(lists, row, strict=True))} for row in zip(*lists.values(), strict=True)]


def write_orm(store: Store, columns: PredictionColumns, as_of: datetime, *, pack: bool = False) -> None:
    """Write lots through the ORM: bulk insert, and bulk update by primary key."""
    for lot in lots(columns):
        rows = history_rows(lot, as_of)
        with Session(store.engine.execution_options(writes=True)) as session, session.begin():
            before = dict(
                session.execute(
                    select(Shown.id, Shown.probability).where(
                        Shown.id.between(lot.record_id[0], lot.record_id[-1])
                    )
                ).all()
            )
            session.execute(insert(History), rows)
            session.execute(update(Shown), [_shown(row, before[row["record_id"]]) for row in rows])


def _shown(row: dict[str, Any], before: float | None) -> dict[str, Any]:
    return {
        "id": row["record_id"],
        "probability": row["probability"],
        "previous_probability": before,
        "score": row["score"],
        "grade": row["grade"],
        "trend": _trend(before, row["probability"]),
        "reasons": row["reasons"],
        "scored_at": row["as_of"],
        "model_version": row["model_version"],
    }


def _trend(before: float | None, now: float) -> str | None:
    if before is None:
        return None
    if abs(now - before) < FLAT:
        return "flat"
    return "up" if now > before else "down"


def write_core(store: Store, columns: PredictionColumns, as_of: datetime, *, pack: bool = False) -> None:
    """Write lots by Core's executemany."""
    history, shown = History.__table__, Shown.__table__
    now = bindparam("b_probability", type_=Float)
    change = (
        update(shown)  # type: ignore[arg-type]  # a Table, which mypy takes for any FromClause
        .where(shown.c.id == bindparam("b_id"))
        .values(
            previous_probability=shown.c.probability,
            trend=case(
                (shown.c.probability.is_(None), None),
                (func.abs(now - shown.c.probability) < FLAT, "flat"),
                (now > shown.c.probability, "up"),
                else_="down",
            ),
            probability=now,
            score=bindparam("b_score"),
            grade=bindparam("b_grade"),
            reasons=bindparam("b_reasons"),
            scored_at=bindparam("b_as_of"),
            model_version=bindparam("b_model_version"),
        )
    )
    names = {"record_id": "b_id"} | {
        name: f"b_{name}" for name in ("probability", "score", "grade", "reasons", "as_of", "model_version")
    }
    for lot in lots(columns):
        rows = history_rows(lot, as_of)
        with store.engine.execution_options(writes=True).begin() as connection:
            connection.execute(insert(history), rows)  # type: ignore[arg-type]  # as above
            connection.execute(change, [{bound: row[name] for name, bound in names.items()} for row in rows])


def scored_leads(made: Databases, size: int, first: PredictionColumns) -> str:
    """Return the URL of a database whose leads have a score."""
    url = made.make()
    store = Store(url, clock=FixedClock(NOW))
    with store.transaction(source=Source.IMPORT) as transaction:
        present = transaction.session.scalar(select(func.count(Lead.id))) or 0
        for start in range(present, size, 100_000):
            names = [f"Lead {number}" for number in range(start, min(start + 100_000, size))]
            transaction.create_columns(Lead, {"name": names})
    write_ours(store, first, NOW - timedelta(days=1))
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if store.engine.dialect.name == "postgresql" else "ANALYZE"))
        connection.commit()  # on SQLite there is a transaction all the same
    store.close()
    return url


def check(store: Store, columns: PredictionColumns) -> None:
    """Raise SidesDisagreeError unless all is shown and kept as it should be."""
    size = len(columns)
    query = text(
        "SELECT count(*), sum(score), count(previous_probability), count(trend), "
        "count(CASE WHEN scored_at = :as_of THEN 1 END), (SELECT count(*) FROM predictions) FROM leads"
    )
    with store.engine.connect() as connection:
        found = tuple(map(int, connection.execute(query, {"as_of": micros(NOW)}).one()))
    expected = (size, sum(each or 0 for each in columns.score), size, size, size, 2 * size)
    if found != expected:
        raise SidesDisagreeError(f"of the scores, {found} was found and {expected} is right")


Way = Callable[[Store, PredictionColumns, datetime], None]
PEERS: Final[tuple[Way, ...]] = (write_orm, write_core)


def writing_back(folder: Path, *, database: str, size: int = SCORES, explained: bool = False) -> Contest:
    """Compare ways to write scores of leads that have one."""
    stack = ExitStack()
    made = stack.enter_context(databases(database, folder))
    template = scored_leads(made, size, columns_of_scores(size, seed=1, explained=explained))
    columns = columns_of_scores(size, seed=2, explained=explained)
    plain = columns_of_scores(size, seed=2, explained=explained, packed=False)
    peers = [(way, given) for given in ([plain, columns] if explained else [plain]) for way in PEERS]

    def took(way: Way, columns: PredictionColumns) -> float:
        url = made.make(like=template)
        store = Store(url, clock=FixedClock(NOW))
        time = seconds(lambda: way(store, columns, NOW))
        check(store, columns)
        store.close()
        made.drop(url)
        return time

    def ours() -> tuple[float, ...]:
        return (took(write_ours, columns),) * len(peers)

    return Contest(ours=ours, peer=lambda: tuple(starmap(took, peers)), close=stack.close)


ORM, CORE = "SQLAlchemy's ORM in bulk", "SQLAlchemy Core's executemany"


def benchmarks(database: str) -> Iterator[Benchmark]:
    """Yield the comparisons on one database."""
    yield Benchmark(
        name=f"write_back_{database}",
        peer_name=ORM,
        prepare=partial(writing_back, database=database),
        asked=8,
        also=(Aspect(name="core", peer_name=CORE, unit="s", asked=4),),
        rounds=1,
        warm=False,
    )
    yield Benchmark(
        name=f"write_back_explained_{database}",
        peer_name=f"{ORM}, plain JSON",
        prepare=partial(writing_back, database=database, size=EXPLAINED, explained=True),
        also=(
            Aspect(name="core", peer_name=f"{CORE}, plain JSON", unit="s"),
            Aspect(name="packed", peer_name=f"{ORM}, the same bytes", unit="s"),
            Aspect(name="core_packed", peer_name=f"{CORE}, the same bytes", unit="s"),
        ),
        rounds=1,
        warm=False,
    )


BENCHMARKS = (*benchmarks("sqlite"), *benchmarks("postgresql"))
