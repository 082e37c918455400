"""Mails that are written on records, templates of mails, and mail sequences."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.changes import Source
from crm_core.mail_templates import Draft, MailTemplate, list_templates, save_template
from crm_core.saved import Shared
from crm_core.sequences import (
    LONGEST_WAIT,
    MOST_STEPS,
    MailSequence,
    Standing,
    Step,
    Wanted,
    list_sequences,
    save_sequence,
    standing_of,
    start_as,
)
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Given, Id, RecordPath, Taken, Utc, whole
from serving.service import service, writing
from serving.writing_mail import Letter, send_letter

api: APIBlueprint = new_blueprint(
    "mails", "Mails on records, templates of mails, and mail sequences (docs/mail.md)."
)

_Subject = Annotated[str, Field(min_length=1, max_length=300)]
_Body = Annotated[str, Field(min_length=1, max_length=50_000)]


class NewMail(Taken):
    """A mail to be sent from you, about a record that you may write on."""

    type: Literal["lead", "contact", "deal", "account", "ticket"] = Field(description="Of the record.")
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


class NewTemplate(Taken):
    """A template: places such as `{{ lead.name }}` are filled in with the rights of whoever sends it."""

    name: str = Field(min_length=1, max_length=120)
    subject: _Subject
    body: _Body
    language: Literal["en", "zh"] = "en"
    shared: Literal["own", "team", "all"] = "own"


class TemplateOut(Given):
    """A template."""

    id: int
    name: str
    subject: str
    body: str
    language: str
    shared: str
    version: int
    saved_at: Utc


class TemplatesOut(Given):
    """The templates that you may use, by name."""

    items: list[TemplateOut]


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


class SequenceOut(Given):
    """A mail sequence."""

    id: int
    name: str
    record_type: Literal["lead", "contact"]
    steps: int
    active: bool
    version: int
    standing: SequenceStanding


class SequenceStep(Taken):
    """One mail of a sequence."""

    template_id: Id
    wait_days: whole(0, LONGEST_WAIT) = Field(default=0, description="After the one before.")  # type: ignore[valid-type]  # made at run time
    working: bool = Field(default=True, description="Whether only working days are counted.")


class NewSequence(Taken):
    """A mail sequence."""

    name: str = Field(min_length=1, max_length=120)
    record_type: Literal["lead", "contact"]
    steps: list[SequenceStep] = Field(min_length=1, max_length=MOST_STEPS)
    segment_id: Id | None = Field(default=None, description="Whoever is in it begins by themselves.")
    active: bool = Field(default=True, description="Whether mails of it go out.")


class SequenceChange(NewSequence):
    """A mail sequence that takes the place of one."""

    version: whole(1, 2**31 - 1) = Field(description="The version that was read.")  # type: ignore[valid-type]  # made at run time


class SequencesOut(Given):
    """Mail sequences, by name."""

    items: list[SequenceOut]


class SequenceStart(Taken):
    """With whom a sequence is to begin."""

    record_id: Id = Field(description="A lead or contact, as the sequence is made for.")


class SequenceStarted(Given):
    """Whether somebody began; false: they went through it before, or are on their way."""

    started: bool


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
    return answer(given, 201)


@api.get("/mail-templates", responses={"200": TemplatesOut, **documented(403)})
def list_mail_templates() -> Response:
    """List the templates of mails that you may use."""
    with service().store.reading() as session:
        items = [_template(each) for each in list_templates(session, caller())]
    return answer(TemplatesOut(items=items))


@api.post("/mail-templates", responses={"201": TemplateOut, **documented(400, 403, 413, 415)})
def create_mail_template(body: NewTemplate) -> Response:
    """Save a template of mails; unknown places in it are refused."""
    draft = Draft(
        name=body.name,
        subject=body.subject,
        body=body.body,
        language=body.language,
        shared=Shared(body.shared),
    )
    with writing(caller(), Source.API) as transaction:
        made = _template(save_template(transaction, caller(), draft))
    return answer(made, 201)


@api.get("/mail-sequences", responses={"200": SequencesOut, **documented(403)})
def list_mail_sequences() -> Response:
    """List mail sequences, and how each does."""
    with service().store.reading() as session:
        found = list_sequences(session)
        standing = standing_of(session, [each.id for each in found])
        items = [_sequence(each, standing.get(each.id, Standing())) for each in found]
    return answer(SequencesOut(items=items))


@api.post("/mail-sequences", responses={"201": SequenceOut, **documented(400, 403, 404, 413, 415)})
def create_mail_sequence(body: NewSequence) -> Response:
    """Make a mail sequence; managers and administrators do."""
    with writing(caller(), Source.API) as transaction:
        made = save_sequence(transaction, caller(), _wanted(body))
        return answer(_sequence(made, Standing()), 201)


@api.put(
    "/mail-sequences/<int:id>", responses={"200": SequenceOut, **documented(400, 403, 404, 412, 413, 415)}
)
def change_mail_sequence(path: RecordPath, body: SequenceChange) -> Response:
    """Change a mail sequence: whoever is on their way goes on with its new steps."""
    with writing(caller(), Source.API) as transaction:
        saved = save_sequence(transaction, caller(), _wanted(body), sequence_id=path.id, version=body.version)
        standing = standing_of(transaction.session, [saved.id]).get(saved.id, Standing())
        return answer(_sequence(saved, standing))


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


def _template(template: MailTemplate) -> TemplateOut:
    return TemplateOut.model_validate(template)


def _sequence(sequence: MailSequence, standing: Standing) -> SequenceOut:
    return SequenceOut(
        id=sequence.id,
        name=sequence.name,
        record_type=sequence.record_type,  # type: ignore[arg-type]  # one of them, as the store writes it
        steps=len(sequence.steps),
        active=sequence.active,
        version=sequence.version,
        standing=SequenceStanding(**vars(standing)),
    )
