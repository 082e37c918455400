"""Mails that are written on records, templates of mails, and mail sequences."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.mail_templates import (
    GIVEN,
    PEOPLE,
    ROOTS,
    Draft,
    MailTemplate,
    get_template,
    list_templates,
    offered_fields,
    retire_template,
    save_template,
)
from crm_core.messages import Message, MessageKind, MessageState
from crm_core.saved import Shared
from crm_core.sequences import (
    LONGEST_WAIT,
    MOST_STEPS,
    MailSequence,
    RunState,
    SequenceRun,
    Standing,
    Step,
    Wanted,
    get_sequence,
    list_runs,
    list_sequences,
    save_sequence,
    standing_of,
    start_as,
    stop_run,
)
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, tagged
from serving.api.pages import Key, PageQuery
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc, whole
from serving.service import service, writing
from serving.writing_mail import Letter, fill_in, get_written_on, list_mails_on, send_letter

api: APIBlueprint = new_blueprint(
    "mails", "Mails on records, templates of mails, and mail sequences (docs/mail.md)."
)

_Subject = Annotated[
    str, Field(min_length=1, max_length=300, examples=['Our talk, {{ lead.first_name | default("there") }}'])
]
_Body = Annotated[
    str, Field(min_length=1, max_length=50_000, examples=["Dear {{ lead.name }},\n\n{{ owner.name }}"])
]
_About = Literal["lead", "contact", "deal", "account", "ticket"]


class NewMail(Taken):
    """A mail to be sent from you, about a record that you may write on."""

    type: _About = Field(description="Of the record.")
    id: Id = Field(description="The record's id.")
    to: str | None = Field(
        default=None, max_length=320, description="One mail address; default: that of the record's person."
    )
    subject: _Subject | None = Field(default=None, description="Needed without a template.")
    text: _Body | None = Field(default=None, description="Needed without a template.")
    template_id: Id | None = Field(default=None, description="A template that is filled in instead.")
    answers: Id | None = Field(default=None, description="The activity of the mail that it replies to.")


class MailQueued(Given):
    """A mail that is on its way."""

    activity_id: int
    agreement: Literal["granted", "withdrawn", "never_asked"] = Field(
        description="What its receiver said to being written to; a mail to one person needs no consent."
    )


class AboutQuery(Asked):
    """Which record."""

    type: _About = Field(description="Of the record.")
    record_id: Id = Field(description="The record's id.")


class MailsQuery(AboutQuery):
    """Mails on which record."""

    limit: int = Field(default=50, ge=1, le=200, description="Mails on a page, newest first.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class MailOut(Given):
    """A mail on a record, and what became of it; its text is in its activity."""

    id: int
    activity_id: int
    direction: Literal["inbound", "outbound"]
    kind: MessageKind
    state: MessageState
    problem: str | None = Field(description="Why it did not arrive.")
    subject: str | None = Field(description="Null where you may not see it.")
    sender_id: int | None = Field(description="The colleague who sent it.")
    template_id: int | None
    run_id: int | None = Field(description="Of somebody's way through a sequence.")
    recorded_at: Utc
    sent_at: Utc | None
    replied_at: Utc | None
    bounced_at: Utc | None
    unsubscribed_at: Utc | None


class MailsPage(Given):
    """Mails on a record, newest first."""

    items: list[MailOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class NewTemplate(Taken):
    """A template: places such as `{{ lead.name }}` are filled in with the rights of whoever sends it."""

    name: str = Field(min_length=1, max_length=120, examples=["Welcome"])
    subject: _Subject
    body: _Body
    language: Literal["en", "zh"] = "en"
    shared: Literal["own", "team", "all"] = "own"


class TemplateOut(Given):
    """A template."""

    id: int
    user_id: int = Field(description="Whose it is; they and administrators may change it.")
    name: str
    subject: str
    body: str
    language: str
    shared: str
    version: int
    saved_at: Utc
    retired_at: Utc | None = Field(description="Since when it is not offered any more; null: it is.")


class PlacesOut(Given):
    """What may stand in one place of a template: `{{ root.field }}`."""

    root: str = Field(examples=["lead"])
    fields: list[str] = Field(description="Empty where the root stands alone, as `{{ link }}` does.")


class AllPlacesOut(Given):
    """What may stand in a template."""

    items: list[PlacesOut]


class FilledOut(Given):
    """A mail as it would go out if you sent it."""

    subject: str
    text: str
    html: str


class TemplatesPage(Given):
    """The templates that you may use, by name."""

    items: list[TemplateOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class SequenceStanding(Given):
    """How a sequence does, in people; `sent` counts mails."""

    people: int
    active: int
    finished: int
    stopped: int
    sent: int
    replied: int
    bounced: int
    unsubscribed: int


class SequenceStep(Taken):
    """One mail of a sequence."""

    template_id: Id
    wait_days: whole(0, LONGEST_WAIT) = Field(default=0, description="After the one before.")  # type: ignore[valid-type]  # made at run time
    working: bool = Field(default=True, description="Whether only working days are counted.")


class SequenceStepOut(Given):
    """One mail of a sequence."""

    template_id: int
    wait_days: int
    working: bool


class SequenceOut(Given):
    """A mail sequence."""

    id: int
    user_id: int = Field(description="Who made it.")
    name: str
    record_type: Literal["lead", "contact"]
    steps: list[SequenceStepOut]
    segment_id: int | None
    active: bool
    version: int
    saved_at: Utc
    standing: SequenceStanding


class NewSequence(Taken):
    """A mail sequence."""

    name: str = Field(min_length=1, max_length=120)
    record_type: Literal["lead", "contact"]
    steps: list[SequenceStep] = Field(min_length=1, max_length=MOST_STEPS)
    segment_id: Id | None = Field(default=None, description="Whoever is in it begins by themselves.")
    active: bool = Field(default=True, description="Whether mails of it go out.")


class SequencesPage(Given):
    """Mail sequences, by name."""

    items: list[SequenceOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class SequenceStart(Taken):
    """With whom a sequence is to begin."""

    record_id: Id = Field(description="A lead or contact, as the sequence is made for.")


class SequenceStarted(Given):
    """Whether somebody began; false: they went through it before, or are on their way."""

    started: bool


class RunsQuery(Asked):
    """Which runs of a sequence."""

    state: RunState | None = Field(default=None, description="Only those that stand so.")
    limit: int = Field(default=50, ge=1, le=200, description="Runs on a page, newest first.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class RunPath(RecordPath):
    """Which run of which sequence."""

    run_id: Id = Field(description="The run's id.")


class SequenceRunOut(Given):
    """Somebody's way through a sequence."""

    id: int
    record_type: Literal["lead", "contact"]
    record_id: int
    state: RunState
    why: str | None = Field(description="Why it was stopped.")
    step: int = Field(description="Steps that are behind them.")
    next_at: Utc | None = Field(description="When the next mail is due; null where it is over.")
    started_by_id: int | None = Field(description="Null: a rule or a segment.")
    started_at: Utc
    ended_at: Utc | None


class SequenceRunsPage(Given):
    """Who goes through a sequence, newest first, of those whom you see."""

    items: list[SequenceRunOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


@api.post("/mails", responses={"201": MailQueued, **documented(400, 403, 404, 409, 413, 415)})
def send_mail(body: NewMail) -> Response:
    """Send a mail from you about a record; it stands there as an activity."""
    letter = Letter(
        about=(body.type, body.id),
        to=body.to,
        subject=body.subject,
        text=body.text,
        template_id=body.template_id,
        answers=body.answers,
    )
    with writing(caller(), Source.API) as transaction:
        queued = send_letter(transaction, caller(), letter)
        given = MailQueued(activity_id=queued.activity_id or 0, agreement=queued.agreement.value)
    return created(given, f"activities/{given.activity_id}")


@api.get("/mails", responses={"200": MailsPage, **documented(403, 404)})
def list_mails(query: MailsQuery) -> Response:
    """List the mails on a record, newest first, and what became of each."""
    about = (query.type, query.record_id)
    with service().store.reading() as session:
        reader = Reader(session, caller())
        get_written_on(reader, about, to_write=False)
        found = list_mails_on(reader, about, limit=query.limit + 1, before=query.cursor)
        items = [_mail(mail, subject) for mail, subject in found[: query.limit]]
    more = len(found) > query.limit
    return answer(MailsPage(items=items, next_cursor=items[-1].id if more else None))


@api.get("/mail-templates", responses={"200": TemplatesPage, **documented(403)})
def list_mail_templates(query: PageQuery) -> Response:
    """List the templates of mails that you may use."""
    with service().store.reading() as session:
        found, more = query.part(list_templates(session, caller()), _by_name)
        return answer(TemplatesPage(items=[_template(each) for each in found], next_cursor=more))


@api.post("/mail-templates", responses={"201": TemplateOut, **documented(400, 403, 413, 415)})
def create_mail_template(body: NewTemplate) -> Response:
    """Save a template of mails; unknown places in it are refused."""
    with writing(caller(), Source.API) as transaction:
        made = save_template(transaction, caller(), _draft(body))
        return created(_template(made), f"mail-templates/{made.id}", made.version)


@api.get(
    "/mail-templates/places",
    operation_id="list_template_places",
    responses={"200": AllPlacesOut, **documented(403)},
)
def list_places() -> Response:
    """List what may stand in a template, by the record or person that it is of."""
    with service().store.reading() as session:
        items = [PlacesOut(root=root, fields=offered_fields(session, root)) for root in (*ROOTS, *PEOPLE)]
    return answer(AllPlacesOut(items=[*items, *(PlacesOut(root=root, fields=[]) for root in GIVEN)]))


@api.get("/mail-templates/<int:id>", responses={"200": TemplateOut, **documented(403, 404)})
def get_mail_template(path: RecordPath, header: ReadHeaders) -> Response:
    """Read a template that you may use, offered still or not."""
    with service().store.reading() as session:
        found = get_template(session, caller(), path.id)
        return header.answer(_template(found), found.version)


@api.put("/mail-templates/<int:id>", responses={"200": TemplateOut, **documented(400, 403, 404, 413, 415)})
def change_mail_template(path: RecordPath, header: WriteHeaders, body: NewTemplate) -> Response:
    """Change a template; mails that were written with it keep what they say."""
    with writing(caller(), Source.API) as transaction:
        version = header.version(get_template(transaction.session, caller(), path.id).version)
        saved = save_template(transaction, caller(), _draft(body), template_id=path.id, version=version)
        return tagged(_template(saved).model_dump_json(), saved.version)


@api.delete("/mail-templates/<int:id>", responses={"204": None, **documented(403, 404)})
def retire_mail_template(path: RecordPath, header: WriteHeaders) -> Response:
    """Offer a template no more; mails that were written with it keep what they say."""
    with writing(caller(), Source.API) as transaction:
        version = header.version(get_template(transaction.session, caller(), path.id).version)
        retire_template(transaction, caller(), path.id, version=version)
    return Response(status=204)


@api.get("/mail-templates/<int:id>/filled", responses={"200": FilledOut, **documented(403, 404)})
def fill_mail_template(path: RecordPath, query: AboutQuery) -> Response:
    """Read a template filled in for a record, as it would go out if you sent it; nothing is sent."""
    about = (query.type, query.record_id)
    with service().store.reading() as session:
        reader = Reader(session, caller())
        record = get_written_on(reader, about, to_write=False)
        return answer(FilledOut.model_validate(fill_in(reader, path.id, record)))


@api.get("/mail-sequences", responses={"200": SequencesPage, **documented(403)})
def list_mail_sequences(query: PageQuery) -> Response:
    """List mail sequences, and how each does."""
    with service().store.reading() as session:
        found, more = query.part(list_sequences(session), _by_name)
        standing = standing_of(session, [each.id for each in found])
        items = [_sequence(each, standing.get(each.id, Standing())) for each in found]
    return answer(SequencesPage(items=items, next_cursor=more))


@api.post("/mail-sequences", responses={"201": SequenceOut, **documented(400, 403, 404, 413, 415)})
def create_mail_sequence(body: NewSequence) -> Response:
    """Make a mail sequence; managers and administrators do."""
    with writing(caller(), Source.API) as transaction:
        made = save_sequence(transaction, caller(), _wanted(body))
        return created(_sequence(made, Standing()), f"mail-sequences/{made.id}", made.version)


@api.get("/mail-sequences/<int:id>", responses={"200": SequenceOut, **documented(403, 404)})
def get_mail_sequence(path: RecordPath, header: ReadHeaders) -> Response:
    """Read a mail sequence, and how it does."""
    with service().store.reading() as session:
        found = get_sequence(session, path.id)
        standing = standing_of(session, [found.id]).get(found.id, Standing())
        return header.answer(_sequence(found, standing), found.version)


@api.get("/mail-sequences/<int:id>/runs", responses={"200": SequenceRunsPage, **documented(403, 404)})
def list_mail_sequence_runs(path: RecordPath, query: RunsQuery) -> Response:
    """List who goes or went through a sequence, newest first, of those whom you see."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        found = list_runs(reader, path.id, limit=query.limit + 1, state=query.state, before=query.cursor)
        items = [_run(each) for each in found[: query.limit]]
    more = len(found) > query.limit
    return answer(SequenceRunsPage(items=items, next_cursor=items[-1].id if more else None))


@api.post(
    "/mail-sequences/<int:id>/runs/<int:run_id>/stop",
    responses={"200": SequenceRunOut, **documented(403, 404)},
)
def stop_mail_sequence_run(path: RunPath) -> Response:
    """End somebody's way through a sequence, if you may write on them; one that is over stays as it ended."""
    with writing(caller(), Source.API) as transaction:
        return answer(_run(stop_run(transaction, caller(), path.run_id, sequence_id=path.id)))


@api.put("/mail-sequences/<int:id>", responses={"200": SequenceOut, **documented(400, 403, 404, 413, 415)})
def change_mail_sequence(path: RecordPath, header: WriteHeaders, body: NewSequence) -> Response:
    """Change a mail sequence: whoever is on their way goes on with its new steps."""
    with writing(caller(), Source.API) as transaction:
        present = transaction.session.get(MailSequence, path.id)
        version = header.version(0 if present is None else present.version)
        saved = save_sequence(transaction, caller(), _wanted(body), sequence_id=path.id, version=version)
        standing = standing_of(transaction.session, [saved.id]).get(saved.id, Standing())
        return tagged(_sequence(saved, standing).model_dump_json(), saved.version)


@api.post(
    "/mail-sequences/<int:id>/start", responses={"200": SequenceStarted, **documented(400, 403, 404, 409)}
)
def start_mail_sequence(path: RecordPath, body: SequenceStart) -> Response:
    """Begin a sequence with a lead or contact that you may write on."""
    with writing(caller(), Source.API) as transaction:
        zone = service().settings.time_zone
        run = start_as(transaction, caller(), path.id, body.record_id, zone=zone)
        given = SequenceStarted(started=run is not None)
    return answer(given)


def _wanted(body: NewSequence) -> Wanted:
    return Wanted(
        name=body.name,
        record_type=body.record_type,
        steps=tuple(Step(**step.model_dump()) for step in body.steps),
        segment_id=body.segment_id,
        active=body.active,
    )


def _mail(mail: Message, subject: str | None) -> MailOut:
    plain = {name: getattr(mail, name) for name in MailOut.model_fields}
    return MailOut.model_validate({**plain, "subject": subject})


def _draft(body: NewTemplate) -> Draft:
    return Draft(
        name=body.name,
        subject=body.subject,
        body=body.body,
        language=body.language,
        shared=Shared(body.shared),
    )


def _template(template: MailTemplate) -> TemplateOut:
    return TemplateOut.model_validate(template)


def _by_name(kept: MailTemplate | MailSequence) -> Key:
    return (kept.name, kept.id)


def _run(run: SequenceRun) -> SequenceRunOut:
    return SequenceRunOut.model_validate(run)


def _sequence(sequence: MailSequence, standing: Standing) -> SequenceOut:
    names = SequenceOut.model_fields.keys() - {"standing"}
    plain = {name: getattr(sequence, name) for name in names}
    return SequenceOut.model_validate({**plain, "standing": vars(standing)})
