"""Reports over HTTP: what can be asked, answers as of any instant, and reports that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from crm_core.reporting.asking import ANY, MOST_BEHIND, Question, Report, list_behind, make_report, names_of
from crm_core.reporting.catalogue import MEASURES, SUBJECTS, shared_dimensions
from crm_core.reporting.counting import Figure, Key
from crm_core.reporting.keeping import (
    MOST_RECEIVERS,
    Rhythm,
    end_report,
    keep_report,
    mails_of,
    send_to,
    stop_mail,
)
from crm_core.reporting.keeping import Asked as Kept
from crm_core.reporting.retention import retain
from crm_core.saved import ReportMail, SavedReport, get_report, list_reports, may_end
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, tagged
from serving.api.pages import PageQuery
from serving.payloads import Asked, Given, Id, Past, Taken, Utc, whole
from serving.report_words import READY
from serving.reporting import choices_for, measures_for, ready_for
from serving.service import service, writing

api: APIBlueprint = new_blueprint("reports", "Figures by anything, as of any instant; reports that are kept.")

Period = Literal[
    "last_30",
    "last_90",
    "last_365",
    "this_month",
    "last_month",
    "this_quarter",
    "last_quarter",
    "this_year",
    "last_year",
    "dates",
]
Word = Annotated[str, Field(max_length=40)]
Condition = Annotated[str, Field(max_length=2_000)]


class AskedQuestion(Given):
    """A question as it is kept."""

    measures: list[str]
    rows: str | None = None
    columns: str | None = None
    filters: list[str] = Field(default_factory=list)
    period: str = "last_365"
    since: date | None = None
    until: date | None = None
    as_of: date | None = Field(default=None, description="Of a report that is always as of one day.")


class ReportIn(Taken):
    """A report to keep."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    measures: Annotated[list[Word], Field(min_length=1, max_length=8)]
    rows: Word | None = None
    columns: Word | None = Field(default=None, description="With one measure only.")
    filters: Annotated[list[Condition], Field(max_length=20, default_factory=list)]
    period: Period = "last_365"
    since: Annotated[str, Field(max_length=10)] | None = Field(
        default=None, description="A day such as 2026-01-31, of the period `dates`."
    )
    until: Annotated[str, Field(max_length=10)] | None = Field(default=None, description="As `since`.")
    shared: Literal["own", "team", "all"] = "own"


class ReportOut(Given):
    """A report that somebody keeps."""

    id: int
    name: str
    user_id: int
    shared: str
    version: int
    saved_at: Utc
    asked: AskedQuestion


class ReadyOut(Given):
    """A report that comes with the program."""

    key: str
    title: str
    measures: list[str]
    rows: str
    columns: str | None


class MeasureOut(Given):
    """Something that you may ask."""

    name: str
    record_type: str
    kind: str
    unit: str
    dimensions: list[str]


class ReportsOut(Given):
    """What can be asked, on every page, and what is kept."""

    measures: list[MeasureOut]
    ready: list[ReadyOut]
    items: list[ReportOut] = Field(description="By name.")
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class RunQuery(Asked):
    """A question."""

    measures: Annotated[str, Field(min_length=1, max_length=400)] = Field(
        description="Names with commas between.", examples=["deals_won,win_rate"]
    )
    rows: Word | None = Field(default=None, description="What the rows are told apart by.")
    columns: Word | None = Field(default=None, description="The same of columns; with one measure only.")
    filter: list[Condition] = Field(
        default=[], max_length=20, description="Conditions, as lists take them, on the records counted."
    )
    period: Period = Field(
        default="last_365", description="When it happened; `dates`: from `since` to `until`."
    )
    since: date | None = Field(default=None, description="First day of the period `dates`.")
    until: date | None = Field(default=None, description="Last day of the period `dates`.")
    as_of: Past | None = Field(default=None, description="What was known then; without it, now.")
    zone: Annotated[str, Field(max_length=64)] = Field(
        default="UTC", description="The zone of days and months.", examples=["Asia/Shanghai"]
    )


class BehindQuery(RunQuery):
    """A figure of a question with one measure, and which page of what is behind it."""

    row: str | None = Field(
        default=None, max_length=300, description="`key` of its row, empty for the row without one; all rows."
    )
    column: str | None = Field(default=None, max_length=300, description="The same of its column.")
    limit: int = Field(default=50, ge=1, le=200, description="Records on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class BehindRow(Given):
    """A record behind a figure."""

    record_type: str
    id: int


class BehindOut(Given):
    """The records behind a figure that you still see, by id."""

    items: list[BehindRow]
    count: int = Field(description=f"How many were counted, up to {MOST_BEHIND:,}; some may be gone by now.")
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class SavedQuery(Asked):
    """How a kept report is asked."""

    as_of: Past | None = Field(default=None, description="What was known then; without it, now.")
    zone: Annotated[str, Field(max_length=64)] = Field(
        default="UTC", description="The zone of days and months.", examples=["Asia/Shanghai"]
    )


class RetentionQuery(SavedQuery):
    """As of when."""


class FigureOut(Given):
    """One number: money as text; with a 95 % interval where it has one. `count`: records it is of."""

    value: int | float | Decimal | None
    count: int
    low: float | None
    high: float | None


class SeriesOut(Given):
    """One column of figures."""

    measure: str
    currency: str | None = Field(description="Of money; amounts of several currencies are never added.")
    column: str | int | None
    column_name: str | None
    total: FigureOut | None = Field(
        description="Of all rows; a record that stands in the rows of several products counts once."
    )


class RowOut(Given):
    """One row: `figures` has one for each series, null where there is nothing."""

    key: str | int | None
    name: str | None
    figures: list[FigureOut | None]


class RunOut(Given):
    """The answer."""

    as_of: Utc
    since: date
    until: date
    zone: str
    rows_by: str | None
    columns_by: str | None
    series: list[SeriesOut]
    rows: list[RowOut]
    more: int = Field(description="Rows left out.")


class CohortOut(Given):
    """Customers who first bought in one quarter; `kept` has a share for each later quarter that is over."""

    key: str = Field(examples=["2026-Q1"])
    customers: int
    kept: list[FigureOut]


class RetentionOut(Given):
    """What became of customers."""

    as_of: Utc
    cohorts: list[CohortOut]
    whole: list[FigureOut]


class ReportPath(Asked):
    """Which kept report."""

    id: Id = Field(description="The report's id.")


class ReceiverPath(ReportPath):
    """Whose mails of which kept report."""

    user_id: Id = Field(description="Who receives them.")


class ReportMailsIn(Taken):
    """To whom a kept report is sent, and when."""

    user_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_RECEIVERS)] | None = Field(
        default=None, description="Null: to you. Only whoever keeps the report sends it to others."
    )
    every: Literal["day", "week", "month"]
    day: whole(0, 28) = Field(  # type: ignore[valid-type]  # made at run time
        default=0, description="Of a week, from 0, Monday, to 6; of a month, from 1 to 28; of every day, 0."
    )
    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["08:30"])]
    zone: Annotated[str, Field(max_length=64)] = Field(default="UTC", examples=["Asia/Shanghai"])


class ReportMailOut(Given):
    """That somebody is sent a report."""

    user_id: int
    set_by_id: int
    every: str
    day: int
    at: str
    zone: str
    stopped: bool = Field(description="By whoever receives it; nobody else begins it anew.")
    next_at: Utc
    sent_at: Utc | None = Field(description="The newest that was sent.")


class ReportMailsOut(Given):
    """To whom a report is sent, by person."""

    items: list[ReportMailOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


@api.get("/reports", operation_id="list_reports", responses={"200": ReportsOut, **documented()})
def list_what_can_be_asked(query: PageQuery) -> Response:
    """List the measures and ready reports that you may ask, and the reports that you may use."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        may_ask = [name for names in choices_for(reader).values() for name in names]
        ready = {each.key for each in ready_for(reader)}
        kept, more = query.part(list_reports(session, caller()), lambda each: (each.name, each.id))
        found = ReportsOut(
            measures=[_measure(name) for name in may_ask],
            ready=[
                ReadyOut(
                    key=each.key,
                    title=each.title[0],
                    measures=list(measures_for(reader, each.measures, each.rows, each.columns)),
                    rows=each.rows,
                    columns=each.columns,
                )
                for each in READY
                if each.key in ready
            ],
            items=[_kept(each) for each in kept],
            next_cursor=more,
        )
    return answer(found)


@api.get("/reports/run", operation_id="run_report", responses={"200": RunOut, **documented(403)})
def run_question(query: RunQuery) -> Response:
    """Answer a question within your rights, as of now or any instant before."""
    return answer(_run(_asked_now(query), query.as_of, query.zone))


@api.get(
    "/reports/behind", operation_id="list_records_behind", responses={"200": BehindOut, **documented(403)}
)
def list_what_is_behind(query: BehindQuery) -> Response:
    """List the records behind a figure, as far as you see them now."""
    now, asked = service().store.clock.now(), _asked_now(query)
    if len(asked.measures) != 1:
        raise InvalidValueError("measures", query.measures, "one measure")
    question = _question(asked, query.as_of, _zone(query.zone), now)
    row, column = (ANY if said is None else said for said in (query.row, query.column))
    with service().store.reading() as session:
        reader = Reader(session, caller())
        model, ids = list_behind(reader, question, now, row=row, column=column)
        left = [each for each in ids if each > (query.cursor or 0)]
        page = left[: query.limit]
        seen = set(
            session.scalars(reader.select(model).with_only_columns(model.id).where(model.id.in_(page)))
        )
    more = len(left) > query.limit
    return answer(
        BehindOut(
            items=[BehindRow(record_type=model.record_type, id=each) for each in page if each in seen],
            count=len(ids),
            next_cursor=page[-1] if more else None,
        )
    )


@api.get("/reports/retention", responses={"200": RetentionOut, **documented(403)})
def get_retention(query: RetentionQuery) -> Response:
    """Say what became of customers, by the quarter of their first order or contract."""
    now = service().store.clock.now()
    with service().store.reading() as session:
        found = retain(Reader(session, caller()), query.as_of or now, now, _zone(query.zone))
    return answer(
        RetentionOut(
            as_of=found.as_of,
            cohorts=[
                CohortOut(key=each.key, customers=each.customers, kept=[_plain(one) for one in each.kept])
                for each in found.cohorts
            ],
            whole=[_plain(one) for one in found.whole],
        )
    )


@api.post(
    "/reports", operation_id="create_report", responses={"201": ReportOut, **documented(400, 403, 413, 415)}
)
def keep_new_report(body: ReportIn) -> Response:
    """Keep a report; share it with your team or with everybody."""
    with writing(caller(), Source.API) as transaction:
        made = keep_report(transaction, caller(), body.name, _asked(body), shared=body.shared)
        return created(_kept(made), f"reports/{made.id}", made.version)


@api.get("/reports/<int:id>", responses={"200": RunOut, **documented(403, 404)})
def run_kept_report(path: ReportPath, query: SavedQuery, header: ReadHeaders) -> Response:
    """Answer a kept report within your rights."""
    with service().store.reading() as session:
        kept = get_report(session, caller(), path.id)
        asked, version = Kept.from_json(kept.asked), kept.version
    return header.answer(_run(asked, query.as_of, query.zone), version)


@api.put("/reports/<int:id>", responses={"200": ReportOut, **documented(400, 403, 404, 413, 415)})
def change_report(path: ReportPath, header: WriteHeaders, body: ReportIn) -> Response:
    """Change a report that you keep."""
    with writing(caller(), Source.API) as transaction:
        version = header.version(get_report(transaction.session, caller(), path.id).version)
        made = keep_report(
            transaction,
            caller(),
            body.name,
            _asked(body),
            shared=body.shared,
            report_id=path.id,
            version=version,
        )
        return tagged(_kept(made).model_dump_json(), made.version)


@api.delete("/reports/<int:id>", responses={"204": None, **documented(404)})
def delete_report(path: ReportPath, header: WriteHeaders) -> Response:
    """Delete a report that you keep, and stop its mails."""
    with writing(caller(), Source.API) as transaction:
        version = header.version(get_report(transaction.session, caller(), path.id).version)
        end_report(transaction, caller(), path.id, version)
    return Response(status=204)


@api.get("/reports/<int:id>/mails", responses={"200": ReportMailsOut, **documented(404)})
def list_report_mails(path: ReportPath, query: PageQuery) -> Response:
    """List to whom a kept report is sent: of one that others keep, whether to you."""
    user = caller()
    with service().store.reading() as session:
        found = get_report(session, user, path.id)
        mails = [
            each for each in mails_of(session, path.id) if may_end(found, user) or each.user_id == user.id
        ]
        page, more = query.part(mails, lambda each: (each.user_id,))
        return _mails(page, more)


@api.put(
    "/reports/<int:id>/mails",
    operation_id="mail_report",
    responses={"200": ReportMailsOut, **documented(400, 403, 404, 413, 415)},
)
def send_report(path: ReportPath, body: ReportMailsIn) -> Response:
    """Have a kept report sent again and again; who is not named goes on as before."""
    rhythm = Rhythm(every=body.every, at=body.at, zone=body.zone, day=body.day)
    with writing(caller(), Source.API) as transaction:
        receivers = [caller().id] if body.user_ids is None else body.user_ids
        return _mails(send_to(transaction, caller(), path.id, receivers, rhythm))


@api.delete("/reports/<int:id>/mails/<int:user_id>", responses={"204": None, **documented(404)})
def stop_report_mail(path: ReceiverPath) -> Response:
    """Stop sending a report: to you, or, if you keep it, to somebody."""
    with writing(caller(), Source.API) as transaction:
        stop_mail(transaction, caller(), path.id, path.user_id)
    return Response(status=204)


def _mails(found: Sequence[ReportMail], more: str | None = None) -> Response:
    items = [ReportMailOut.model_validate(each) for each in found]
    return answer(ReportMailsOut(items=items, next_cursor=more))


def _asked_now(query: RunQuery) -> Kept:
    return Kept.from_json(
        {
            "measures": [each.strip() for each in query.measures.split(",")],
            "rows": query.rows,
            "columns": query.columns,
            "filters": query.filter,
            "period": query.period,
            "since": query.since,
            "until": query.until,
        }
    )


def _asked(body: ReportIn) -> Kept:
    names = ("measures", "rows", "columns", "filters", "period", "since", "until")
    return Kept.from_json({name: getattr(body, name) for name in names})


def _kept(report: SavedReport) -> ReportOut:
    known = {name: report.asked[name] for name in AskedQuestion.model_fields if name in report.asked}
    return ReportOut(
        id=report.id,
        name=report.name,
        user_id=report.user_id,
        shared=report.shared,
        version=report.version,
        saved_at=report.saved_at,
        asked=AskedQuestion.model_validate({"measures": [], **known}),
    )


def _measure(name: str) -> MeasureOut:
    measure = MEASURES[name]
    return MeasureOut(
        name=name,
        record_type=SUBJECTS[measure.subject].model.record_type,
        kind=measure.kind.value,
        unit=measure.unit.value,
        dimensions=list(shared_dimensions([name])),
    )


def _zone(zone: str) -> str:
    if zone not in available_timezones():
        raise InvalidValueError("zone", zone, "a time zone such as Asia/Shanghai")
    return zone


def _run(asked: Kept, as_of: datetime | None, zone: str) -> RunOut:
    now = service().store.clock.now()
    question = _question(asked, as_of, _zone(zone), now)
    with service().store.reading() as session:
        reader = Reader(session, caller())
        report = make_report(reader, question, now)
        names = names_of(reader, question.rows, report.rows)
        columns = names_of(reader, question.columns, [each.column for each in report.series])
    return _told(report, names, columns)


def _question(asked: Kept, as_of: datetime | None, zone: str, now: datetime) -> Question:
    if as_of is None or as_of > now:
        if as_of is not None:
            raise InvalidValueError("as_of", as_of.isoformat(), "an instant that is not in the future")
        return asked.question(now, zone)
    found = asked.question(as_of, zone)
    return Question(**{**vars(found), "as_of": as_of})


def _told(report: Report, names: dict[Key, str], columns: dict[Key, str]) -> RunOut:
    asked = report.question
    series: list[Any] = [
        SeriesOut(
            measure=each.measure,
            currency=each.currency,
            column=each.column,
            column_name=columns.get(each.column),
            total=_figure(report.totals.get(each)),
        )
        for each in report.series
    ]
    rows = [
        RowOut(
            key=row,
            name=names.get(row),
            figures=[_figure(report.cells.get((row, each))) for each in report.series],
        )
        for row in report.rows
    ]
    return RunOut(
        as_of=asked.as_of,
        since=asked.since,
        until=asked.until,
        zone=asked.zone,
        rows_by=asked.rows,
        columns_by=asked.columns,
        series=series,
        rows=rows,
        more=report.more,
    )


def _figure(figure: Figure | None) -> FigureOut | None:
    return None if figure is None else _plain(figure)


def _plain(figure: Figure) -> FigureOut:
    return FigureOut(value=figure.value, count=figure.count, low=figure.low, high=figure.high)
