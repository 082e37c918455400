"""What people may ask of us, over HTTP: to see what is held, to be forgotten, not to be scored.

Mail addresses are in bodies, never in paths: paths end up in logs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field, model_validator

from crm_core.changes import Source
from crm_core.personal import set_scoring_opt_out_as
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.api.finding import TypedPath
from serving.importing import forget_files
from serving.journal import origin_of_request
from serving.leaving import let_go
from serving.payloads import Given, Id, RecordPath, Taken
from serving.personal_data import Who, erase_for, export_for, find_for
from serving.service import service, wake_rescoring, writing

api: APIBlueprint = new_blueprint("people", "What is held about a person, and what they ask of us.")

_WAIT_SECONDS = 2.0
"""For how long an erasure waits for others to leave the database alone."""


class PersonIn(Taken):
    """A person, told by a mail address, or by a lead or contact that stands for them."""

    mail: Annotated[str, Field(min_length=3, max_length=320)] | None = None
    record_type: Literal["lead", "contact"] | None = None
    id: Id | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        by_record = self.record_type is not None and self.id is not None
        if by_record == (self.mail is not None) or (self.record_type is None) != (self.id is None):
            raise ValueError("expected either mail, or record_type and id")
        return self

    def who(self) -> Who:
        """Return who is meant."""
        if self.record_type is None or self.id is None:
            return Who(mail=self.mail)
        return Who(record=(self.record_type, self.id))


class LeaveIn(Taken):
    """Who takes over."""

    heir_ids: list[Id] = Field(
        default_factory=list, max_length=50, description="Users, who get the records in turn."
    )


class LeftOut(Given):
    """What moved."""

    moved: dict[str, int] = Field(description="How many records, by type; approvals and forms among them.")


class RecordOut(Given):
    """A record, named."""

    record_type: str
    id: int


class PersonOut(Given):
    """Which records stand for a person, and what they are told by."""

    records: list[RecordOut]
    names: list[str]
    mails: list[str]
    phones: list[str]


class PersonalData(Given):
    """All that is held about a person; `docs/personal-data.md` says what each part is."""

    person: dict[str, list[str]]
    records: list[dict[str, Any]]
    belongings: list[dict[str, Any]]
    related: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    mentions: list[dict[str, Any]]


class KeptOut(Given):
    """A field that stays because it tells somebody else as well."""

    record_type: str
    record_id: int
    field: str


class ErasureOut(Given):
    """What was erased, in numbers."""

    records: list[RecordOut] = Field(description="They stood for the person; emptied and deleted.")
    emptied: int = Field(description="Records that belonged to them.")
    scrubbed: int = Field(description="Other records that named them.")
    changes: int = Field(description="Rows of the log.")
    predictions: int = Field(description="Predictions that lost their reasons.")
    files: int = Field(description="Files kept elsewhere, to be deleted there.")
    kept: list[KeptOut]
    purged: bool = Field(
        description="False: the database was in use, its files hold old bytes until `crm person purge`."
    )


class OptOutIn(Taken):
    """Whether somebody asks not to be scored."""

    opted_out: bool


class OptOutOut(Given):
    """The records on which the wish stands now."""

    opted_out: bool
    records: list[RecordOut]


@api.post("/people/find", responses={"200": PersonOut, **documented(400, 403, 404, 413, 415)})
@requires(Scope.PEOPLE)
def find_person(body: PersonIn) -> Response:
    """Find the records that stand for a person; for administrators."""
    return answer(
        PersonOut.model_validate(find_for(service().store, caller(), body.who(), origin=origin_of_request()))
    )


@api.post("/people/export", responses={"200": PersonalData, **documented(400, 403, 404, 413, 415)})
@requires(Scope.PEOPLE)
def export_person(body: PersonIn) -> Response:
    """Give all that is held about a person, and log who asked; for administrators."""
    return answer(
        PersonalData.model_validate(
            export_for(service().store, caller(), body.who(), origin=origin_of_request())
        )
    )


@api.post("/people/erase", responses={"200": ErasureOut, **documented(400, 403, 404, 413, 415)})
@requires(Scope.PEOPLE)
def erase_person(body: PersonIn) -> Response:
    """Erase a person for good, and log who did it; for administrators."""
    done = erase_for(
        service().store,
        caller(),
        body.who(),
        origin=origin_of_request(),
        wait_seconds=_WAIT_SECONDS,
        files=service().settings.home_folder.files,
    )
    forget_files(service().settings.home_folder)
    wake_rescoring()
    return answer(ErasureOut.model_validate(done))


@api.post("/users/<int:id>/leave", responses={"200": LeftOut, **documented(400, 403, 404, 409, 413, 415)})
def let_somebody_go(path: RecordPath, body: LeaveIn) -> Response:
    """Note that somebody left, and give all that is open to others; for administrators."""
    user = caller()
    with writing(user, Source.API) as transaction:
        moved = let_go(transaction, user, path.id, body.heir_ids, origin=origin_of_request(user))
    return answer(LeftOut(moved=moved))


@api.post(
    "/<type>/<int:id>/scoring-opt-out",
    responses={"200": OptOutOut, **documented(400, 403, 404, 413, 415)},
)
def set_scoring_opt_out(path: TypedPath, body: OptOutIn) -> Response:
    """Write down whether a person or company asks not to be scored; on all records that stand for them."""
    user = caller()
    with writing(user, Source.API) as transaction:
        noted = set_scoring_opt_out_as(transaction, user, path.record_type, path.id, opted_out=body.opted_out)
    records = [RecordOut(record_type=kind, id=each) for kind, each in noted]
    return answer(OptOutOut(opted_out=body.opted_out, records=records))
