"""The pages of reports: gallery, report or pivot, what is behind a figure, retention, and what is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import AccessDeniedError, CRMError, InvalidValueError, StaleRecordError
from crm_core.exporting.files import write_csv, write_parquet, write_xlsx
from crm_core.exporting.tables import ExportTable
from crm_core.phrases import one_of
from crm_core.records import User
from crm_core.reporting.asking import Question, end_of_day, list_behind
from crm_core.reporting.catalogue import MEASURES, PERIODS, Kind, Unit
from crm_core.reporting.counting import Figure, Key, Series
from crm_core.reporting.keeping import (
    EVERY,
    Asked,
    Rhythm,
    end_report,
    keep_report,
    mails_of,
    read_day,
    send_to,
    stop_mail,
)
from crm_core.reporting.keeping import PERIODS as SPANS
from crm_core.reporting.retention import Retention, retain
from crm_core.saved import ReportMail, SavedReport, Shared, get_report, list_reports, may_end
from crm_core.tokens import works_here
from serving.mail import mail_is_on
from serving.report_words import DIMENSION, GROUPS, MEASURE, PERIOD, READY, SUBJECT, Ready, pick
from serving.reporting import (
    Told,
    choices_for,
    dimensions_for,
    measures_for,
    ready_for,
    table_of,
    tell,
    type_counted,
)
from serving.retention_table import retention_table
from serving.service import page_session, service, writing
from serving.web.asked import whole
from serving.web.charts import Axis, Bars, Chart, Dots, Line, Mark, draw
from serving.web.language import choose_language, choose_time_zone, gettext
from serving.web.places import shown_records, type_word
from serving.web.refusals import refusal
from serving.web.shown_as import number, percent

pages = Blueprint("report_pages", __name__, url_prefix="/reports")

ROWS_BEHIND: Final = 50
_IN_CHART: Final = 14
_LINES: Final = 5
_WRITERS: Final[Mapping[str, Any]] = {
    "csv": partial(write_csv, raw=False),
    "xlsx": write_xlsx,
    "parquet": write_parquet,
}
FORMATS: Final[Mapping[str, str]] = {"csv": "CSV", "xlsx": "Excel", "parquet": "Parquet"}


def _now() -> datetime:
    return service().store.clock.now()


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


# ---------------------------------------------------------------- the gallery


@pages.get("")
def show_gallery() -> ResponseReturnValue:
    """Show the reports that come with the program, those that are kept, and what is sent to the reader."""
    session, user = page_session(), current_user.user
    reader, language = _reader(), choose_language()
    ready = ready_for(reader)
    names = dict(session.execute(select(User.id, User.name)).all())
    kept = [
        {"kept": each, "by": names.get(each.user_id), "mine": may_end(each, user)}
        for each in list_reports(session, user)
    ]
    mails = session.execute(
        select(ReportMail, SavedReport.name)
        .join(SavedReport, SavedReport.id == ReportMail.report_id)
        .where(ReportMail.user_id == user.id)
        .order_by(SavedReport.name)
    ).all()
    groups = {
        pick(title, language): [each for each in ready if each.group == key] for key, title in GROUPS.items()
    }
    return render_template(
        "reports.html",
        groups={title: each for title, each in groups.items() if each},
        kept=kept,
        mails=mails,
        retention=reader.may_be_told_of(["order.account_id"])
        or reader.may_be_told_of(["contract.account_id"]),
        said=partial(pick, language=language),
    )


# ---------------------------------------------------------------- one report


@pages.get("/show")
def show() -> ResponseReturnValue:
    """Show the report that the address asks for."""
    return _show(_asked(), ready=_ready())


@pages.get("/saved/<int:report_id>")
def show_saved(report_id: int) -> ResponseReturnValue:
    """Show a report that somebody keeps, as the reader may see it."""
    saved = get_report(page_session(), current_user.user, report_id)
    try:
        asked = Asked.from_json(saved.asked)
    except InvalidValueError as error:  # of a version of the program that knew other words
        return _show(Asked(measures=()), saved=saved, why=refusal(error))
    if "as_of" in request.args:
        asked = replace(asked, as_of=_day("as_of"))
    return _show(asked, saved=saved)


def _ready() -> Ready | None:
    return next((each for each in READY if each.key == request.args.get("ready")), None)


def _asked() -> Asked:
    """Return the question of the address; a ready report names only itself and what differs."""
    ready, args = _ready(), request.args
    measures = tuple(args.getlist("measure")) or (ready.measures if ready else ())
    rows = args.get("rows", ready.rows if ready else "")
    columns = args.get("columns", (ready.columns or "") if ready else "")
    if ready is not None and not args.getlist("measure"):
        measures = measures_for(_reader(), measures, rows or None, columns or None) or measures
    asked = Asked(
        measures=measures,
        rows=rows or None,
        columns=columns or None,
        filters=tuple(each.strip() for each in args.getlist("filter") if each.strip()),
        period=args.get("period", "last_365"),
        since=_day("since"),
        until=_day("until"),
        as_of=_day("as_of"),
    )
    return replace(asked, period="dates") if _chose_days(asked) else asked


def _chose_days(asked: Asked) -> bool:
    """Say whether somebody left the period as it was and typed other days than its own."""
    if asked.since is None or asked.until is None or asked.period not in SPANS:
        return False
    today = _now().astimezone(ZoneInfo(choose_time_zone())).date()
    same = request.args.get("was") == asked.period != "dates"
    return same and (asked.since, asked.until) != asked.days(asked.as_of or today)


def _day(name: str) -> date | None:
    """Return a day of the address; what is none is as if it was not there."""
    try:
        return read_day(name, request.args.get(name))
    except InvalidValueError:
        return None


def _show(
    asked: Asked, *, ready: Ready | None = None, saved: SavedReport | None = None, why: str = ""
) -> ResponseReturnValue:
    told = None
    if asked.measures and not why:
        try:
            told = _tell(asked)
        except CRMError as error:
            why = refusal(error)
    shown = _render(asked, told, ready, saved, why)
    return make_response(shown, 422 if why and asked.measures else 200)


def _tell(asked: Asked, **more: Any) -> Told:
    return tell(_reader(), _question(asked), _now(), choose_language(), **more)


def _question(asked: Asked) -> Question:
    if asked.period not in SPANS:
        raise InvalidValueError("period", asked.period, one_of(SPANS))
    return asked.question(_now(), choose_time_zone())


def _render(
    asked: Asked, told: Told | None, ready: Ready | None, saved: SavedReport | None, why: str, **more: Any
) -> str:
    language, reader, user = choose_language(), _reader(), current_user.user
    today = _now().date()
    since, until = (
        (told.question.since, told.question.until) if told else (today - timedelta(days=364), today)
    )
    mails = mails_of(page_session(), saved.id) if saved is not None else ()
    mine = saved is not None and may_end(saved, user)
    people = _people() if mine else []
    return render_template(
        "report.html",
        asked=asked,
        args=args_of(asked),
        told=told,
        ready=ready,
        saved=saved,
        mine=mine,
        why=why,
        title=_title(asked, ready, saved),
        chart=_chart(told) if told is not None else None,
        measures=choices_for(reader),
        dimensions=dimensions_for(reader, asked.measures),
        since=since,
        until=until,
        today=today,
        as_of=asked.as_of or today,
        said=partial(pick, language=language),
        names={"measure": MEASURE, "dimension": DIMENSION, "period": PERIOD, "subject": SUBJECT},
        formats=FORMATS,
        shared=list(Shared),
        mails=mails,
        my_mail=next((each for each in mails if each.user_id == user.id), None),
        people=people,
        zone=choose_time_zone(),
        every=EVERY,
        mail_on=mail_is_on(service().settings),
        type_word=partial(type_word, reader),
        counted=type_counted(told.question) if told else "",
        small=lambda figure: figure is not None and figure.low is not None and figure.count < 20,
        **more,
    )


def _people() -> Sequence[User]:
    found = page_session().scalars(select(User).where(User.deleted_at.is_(None)).order_by(User.name, User.id))
    return [each for each in found if works_here(each)]


def _title(asked: Asked, ready: Ready | None, saved: SavedReport | None) -> str:
    if saved is not None:
        return saved.name
    if ready is not None:
        return pick(ready.title, choose_language())
    if not asked.measures:
        return gettext("New report")
    known = [pick(MEASURE[name], choose_language()) for name in asked.measures if name in MEASURE]
    return ", ".join(known) or gettext("New report")


def args_of(asked: Asked) -> dict[str, Any]:
    """Return a question as the arguments of an address."""
    found: dict[str, Any] = {
        "measure": list(asked.measures),
        "rows": asked.rows or "",
        "columns": asked.columns or "",
        "filter": list(asked.filters),
        "period": asked.period,
    }
    for name in ("since", "until"):
        value = getattr(asked, name)
        if value is not None and asked.period == "dates":
            found[name] = value.isoformat()
    return found | ({"as_of": asked.as_of.isoformat()} if asked.as_of else {})


# ---------------------------------------------------------------- the picture


def _chart(told: Told) -> Chart | None:
    """Draw the first measure: lines over time, bars of words, dots with intervals of shares and means."""
    question, report = told.question, told.report
    if question.rows is None or len(report.rows) < 2 or not report.series:
        return None
    first = report.series[0]
    alike = [one for one in report.series if (one.measure, one.currency) == (first.measure, first.currency)]
    measure = MEASURES[first.measure]
    rows = list(report.rows) if question.rows in PERIODS else list(report.rows)[:_IN_CHART]
    marks = [
        mark
        for one in alike[:_LINES]
        if (mark := _mark(told, one, rows, dotted=measure.kind in {Kind.SHARE, Kind.MEAN, Kind.MEDIAN}))
    ]
    return draw(
        told.says.series(None, replace(first, column=None)),
        x=Axis(label=pick(DIMENSION[question.rows], told.says.language)),
        y=Axis(
            label=_unit_label(first),
            show=(lambda value: percent(value, 0)) if measure.unit is Unit.SHARE else number,
        ),
        marks=marks,
        wide=True,
    )


def _unit_label(series: Series) -> str:
    unit = MEASURES[series.measure].unit
    if unit is Unit.MONEY:
        return series.currency or ""
    labels = {Unit.DAYS: gettext("days"), Unit.HOURS: gettext("hours"), Unit.SHARE: gettext("share")}
    return labels.get(unit, pick(MEASURE[series.measure], choose_language()))


def _mark(told: Told, series: Series, rows: Sequence[Key], *, dotted: bool) -> Mark | None:
    name = told.says.series(told.question.columns, series)
    found = [(_short(told.row_name(row)), told.figure(row, series)) for row in rows]
    if dotted:
        points = [
            (at, _plain(figure), figure.low, figure.high)
            for at, figure in found
            if figure is not None and figure.value is not None
        ]
        return Dots(name=name, points=[(at, value or 0.0, low, high) for at, value, low, high in points])
    if told.question.rows in PERIODS:
        return Line(name=name, points=[(at, _plain(figure) or 0) for at, figure in found])
    return Bars(name=name, points=[(at, _plain(figure)) for at, figure in found])


def _plain(figure: Figure | None) -> float | None:
    return None if figure is None or figure.value is None else float(figure.value)


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


# ---------------------------------------------------------------- files and what is behind


@pages.get("/file/<format_>")
def save_file(format_: str) -> ResponseReturnValue:
    """Give the report as a file."""
    asked = _asked()
    if format_ not in _WRITERS:
        abort(404)
    return _file(table_of(_tell(asked, most=5_000), "report"), format_)


def _file(table: ExportTable, format_: str) -> Response:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report"
        _WRITERS[format_](table, path, lambda _rows: None)
        answer = Response(path.read_bytes(), content_type=_TYPES[format_])
    answer.headers["Content-Disposition"] = f'attachment; filename="{table.name}.{format_}"'
    return answer


_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}


@pages.get("/behind")
def behind() -> ResponseReturnValue:
    """List the records behind a figure, as far as the reader may see them now."""
    asked, args, reader = _asked(), request.args, _reader()
    question = _question(replace(asked, measures=asked.measures[:1]))
    chosen: dict[str, Any] = {name: args[name] for name in ("row", "column", "currency") if name in args}
    model, ids = list_behind(reader, question, _now(), **chosen)
    page = max(args.get("page", 1, type=whole), 1)
    shown = [(model.record_type, each) for each in ids[(page - 1) * ROWS_BEHIND : page * ROWS_BEHIND]]
    found = shown_records(reader, shown)
    return render_template(
        "report_behind.html",
        rows=[found[key] for key in shown if key in found],
        missing=len(shown) - len(found),
        all=len(ids),
        page=page,
        pages=-(-len(ids) // ROWS_BEHIND),
        args=args_of(replace(asked, measures=asked.measures[:1])) | chosen,
        back=args_of(asked),
        title=_title(asked, None, None),
        what=type_word(reader, model.record_type, many=True),
    )


# ---------------------------------------------------------------- retention


@pages.get("/retention")
def show_retention() -> ResponseReturnValue:
    """Show what became of customers, by the quarter in which they first bought."""
    found = _retention()
    return render_template(
        "report_retention.html",
        found=found,
        chart=_retention_chart(found),
        formats=FORMATS,
        as_of=_day("as_of") or _now().date(),
        today=_now().date(),
    )


@pages.get("/retention/file/<format_>")
def save_retention(format_: str) -> ResponseReturnValue:
    """Give the cohorts as a file."""
    if format_ not in _WRITERS:
        abort(404)
    return _file(retention_table(_retention()), format_)


def _retention() -> Retention:
    now, zone, day = _now(), choose_time_zone(), _day("as_of")
    as_of = now if day is None or day > now.date() else end_of_day(day, zone, now)
    return retain(_reader(), as_of, now, zone)


def _retention_chart(found: Retention) -> Chart | None:
    points: list[Any] = [
        (number_, figure.value, figure.low, figure.high)
        for number_, figure in enumerate(found.whole, start=1)
    ]
    return draw(
        gettext("Share of customers still buying or under contract"),
        x=Axis(label=gettext("quarters since the first purchase"), show=lambda value: number(value, 0)),
        y=Axis(label=gettext("share"), show=lambda value: percent(value, 0), low=0, high=1),
        marks=[Dots(name=gettext("All cohorts that are so old"), points=points)],
        wide=True,
    )


# ---------------------------------------------------------------- keeping and sending


@pages.post("/save")
def save() -> ResponseReturnValue:
    """Keep a report, or change one's own."""
    form, user = request.form, current_user.user
    report_id, version = form.get("report_id", type=whole), form.get("version", type=whole)
    try:
        asked = Asked.from_json(
            {
                **{name: form.get(name) or None for name in ("rows", "columns", "since", "until", "as_of")},
                "measures": form.getlist("measure"),
                "filters": [each.strip() for each in form.getlist("filter") if each.strip()],
                "period": form.get("period", "last_365"),
            }
        )
        with writing(user, Source.REP) as transaction:
            kept = keep_report(
                transaction,
                user,
                form.get("name", ""),
                asked,
                shared=form.get("shared", "own"),
                report_id=report_id,
                version=version or 0,
            )
            kept_id = kept.id
    except StaleRecordError:
        return make_response(_conflict(report_id or 0), 409)
    except AccessDeniedError:
        raise
    except CRMError as error:
        flash(refusal(error))
        return make_response(render_template("report_refused.html", why=refusal(error)), 422)
    flash(gettext("Kept."))
    return redirect(url_for("report_pages.show_saved", report_id=kept_id))


def _conflict(report_id: int) -> str:
    """Return the page that says that somebody else changed a report, with what was typed."""
    saved = get_report(page_session(), current_user.user, report_id)
    return render_template("report_conflict.html", saved=saved, form=request.form)


@pages.post("/saved/<int:report_id>/delete")
def delete(report_id: int) -> ResponseReturnValue:
    """Delete a report."""
    with writing(current_user.user, Source.REP) as transaction:
        end_report(transaction, current_user.user, report_id)
    flash(gettext("Deleted."))
    return redirect(url_for("report_pages.show_gallery"))


@pages.post("/saved/<int:report_id>/mail")
def send(report_id: int) -> ResponseReturnValue:
    """Have a report sent again and again."""
    form, user = request.form, current_user.user
    receivers = [
        int(each) for each in form.getlist("to") if each.isascii() and each.isdigit() and len(each) < 18
    ] or [user.id]
    every = form.get("every", "")
    named = {"week": "weekday", "month": "monthday"}.get(every, "")
    rhythm = Rhythm(
        every=every,
        at=form.get("at", ""),
        zone=choose_time_zone(),
        day=form.get(named, 0, type=whole) if named else 0,
    )
    try:
        with writing(user, Source.REP) as transaction:
            send_to(transaction, user, report_id, receivers, rhythm)
    except InvalidValueError as error:
        get_report(page_session(), user, report_id)
        return make_response(render_template("report_refused.html", why=refusal(error)), 422)
    flash(gettext("The report is sent from now on."))
    return redirect(url_for("report_pages.show_saved", report_id=report_id))


@pages.post("/saved/<int:report_id>/mail/stop")
def stop(report_id: int) -> ResponseReturnValue:
    """Stop sending a report, to oneself or, whoever keeps it, to somebody."""
    user = current_user.user
    receiver = request.form.get("to", user.id, type=whole)
    with writing(user, Source.REP) as transaction:
        stop_mail(transaction, user, report_id, receiver)
    flash(gettext("It is not sent any more."))
    return redirect(url_for("report_pages.show_gallery"))
