"""Mails with reports: one a slot and receiver, with what the receiver may see when it is written.

A slot is taken and its job added in one transaction, and the mail is added in the one that ends the job: so
two workers, or one that dies, send a slot once.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Final

from sqlalchemy import select

from crm_core.access import Reader
from crm_core.errors import CRMError, RecordNotFoundError
from crm_core.jobs import Job, complete, enqueue
from crm_core.outgoing import enqueue_mail
from crm_core.records import User
from crm_core.reporting.counting import Figure, Series
from crm_core.reporting.keeping import Asked, take_due
from crm_core.saved import ReportMail, get_report
from crm_core.store import Store
from crm_core.tokens import works_here
from serving.reporting import Told, tell
from serving.settings import Settings

REPORT_MAIL: Final = "report_mail"
"""The kind of these jobs."""

_ROWS: Final = 40
_WORDS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "subject": "{name}, {since} to {until}",
        "refused": "This report cannot be made for you: {why}",
        "empty": "Nothing to count in this period.",
        "all": "All",
        "more": "and {count} more rows",
        "open": "Open the report, or stop these mails: {link}",
        "stop": "You can stop these mails on the page of reports.",
    },
    "zh": {
        "subject": "{name}（{since} 至 {until}）",
        "refused": "无法为您生成此报表：{why}",
        "empty": "该期间没有可统计的数据。",
        "all": "合计",
        "more": "另有 {count} 行",
        "open": "打开报表或停止接收：{link}",
        "stop": "您可以在报表页面停止接收此邮件。",
    },
}


class ReportClock:
    """Finds the slots that are due and has their mails written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def run_once(self) -> int:
        """Take the slots that are due; return how many."""
        with self._store.transaction() as transaction:
            taken = take_due(transaction)
            for mail, slot in taken:
                enqueue(
                    transaction.session,
                    REPORT_MAIL,
                    {"report_id": mail.report_id, "user_id": mail.user_id, "slot": slot.isoformat()},
                    now=transaction.now,
                    key=f"report_mail:{mail.id}:{slot.isoformat()}",
                )
        return len(taken)


class ReportMailer:
    """Writes the mails."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, store: Store, job: Job) -> None:
        """Write a mail to the person that a job names."""
        with store.transaction() as transaction:
            session = transaction.session
            user = session.get(User, job.payload["user_id"])
            letter = None
            if user is not None and works_here(user):
                letter = self._letter(Reader(session, user), job.payload["report_id"], transaction.now)
            if user is not None and letter is not None:
                enqueue_mail(
                    session,
                    to=user.email,
                    subject=letter.subject,
                    text=letter.text,
                    html=letter.html,
                    key=f"report_mail:{job.id}",
                    now=transaction.now,
                )
            complete(session, job, now=transaction.now)

    def _letter(self, reader: Reader, report_id: int, now: datetime) -> Letter | None:
        """Return the mail; None where the report is gone, or was stopped meanwhile."""
        user = reader.user
        language = user.language if user.language in _WORDS else self._settings.language
        zone = user.time_zone or self._settings.time_zone
        try:
            report = get_report(reader.session, user, report_id)
        except RecordNotFoundError:
            return None
        mine = (ReportMail.report_id == report_id, ReportMail.user_id == user.id)
        mail = reader.session.scalars(select(ReportMail).where(*mine)).one_or_none()
        if mail is None or mail.stopped:
            return None
        link = f"{(self._settings.public_url or '').rstrip('/')}/reports/saved/{report_id}"
        letter = Letter(name=report.name, language=language, link=link if self._settings.public_url else "")
        try:
            asked = Asked.from_json(report.asked)
            letter.told = tell(reader, asked.question(now, zone), now, language, most=_ROWS)
        except CRMError as error:
            letter.refused = str(error)
        return letter


class Letter:
    """A report as a mail: a table in HTML, the same in plain text, and the way to the page."""

    def __init__(self, *, name: str, language: str, link: str) -> None:
        self.told: Told | None = None
        self.refused = ""
        self._name = name
        self._words = _WORDS[language]
        self._link = link

    @property
    def subject(self) -> str:
        """Return the subject, on one line."""
        said = self._name
        if self.told is not None:
            asked = self.told.question
            said = self._words["subject"].format(name=self._name, since=asked.since, until=asked.until)
        return " ".join("".join(each if each.isprintable() else " " for each in said).split())[:400]

    @property
    def text(self) -> str:
        """Return the plain text."""
        lines = [self.subject, "", *self._why()]
        lines += ["  |  ".join(cells) for cells in self._table()]
        return "\n".join([*lines, "", self._end(), ""])

    @property
    def html(self) -> str:
        """Return the text with a table; everything that people typed is escaped."""
        rows = self._table()
        head = "".join(f'<th align="left">{escape(cell)}</th>' for cell in rows[0]) if rows else ""
        body = "".join(
            "<tr>"
            + "".join(
                f'<td align="{"left" if not n else "right"}">{escape(c)}</td>' for n, c in enumerate(row)
            )
            + "</tr>"
            for row in rows[1:]
        )
        table = (
            f'<table border="1" cellpadding="4" cellspacing="0"><tr>{head}</tr>{body}</table>' if rows else ""
        )
        why = "".join(f"<p>{escape(line)}</p>" for line in self._why())
        return f"<h1>{escape(self.subject)}</h1>{why}{table}<p>{escape(self._end())}</p>"

    def _why(self) -> list[str]:
        if self.refused:
            return [self._words["refused"].format(why=self.refused)]
        if not self._table():
            return [self._words["empty"]]
        return [self.told.note] if self.told is not None and self.told.note else []

    def _end(self) -> str:
        return self._words["open"].format(link=self._link) if self._link else self._words["stop"]

    def _table(self) -> list[list[str]]:
        told = self.told
        if told is None or not told.report.series:
            return []
        series = told.report.series
        rows = [told.header]
        for row in told.report.rows if told.question.rows else ():
            figures = [(one, told.figure(row, one)) for one in series]
            rows.append([told.row_name(row), *(_said(told, one, each) for one, each in figures)])
        totals = [(one, told.total(one)) for one in series]
        rows.append([self._words["all"], *(_said(told, one, each) for one, each in totals)])
        if told.report.more:
            rows.append([self._words["more"].format(count=told.report.more), *([""] * len(series))])
        return rows


def _said(told: Told, series: Series, figure: Figure | None) -> str:
    return told.says.value(series, None if figure is None else figure.value)
