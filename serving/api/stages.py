"""Pipelines and what is set of selling, over HTTP: read by all, set by administrators."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Final

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field
from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.errors import StageNotInPipelineError
from crm_core.pipelines import PIPELINES, ChecklistItem, PlaybookTask, get_stage
from crm_core.sales_settings import LONGEST_NAME as LONGEST_COMPANY
from crm_core.sales_settings import LONGEST_TEXT, SalesSettings, sales_settings
from crm_core.stage_settings import (
    LONGEST_ITEM,
    LONGEST_NAME,
    LONGEST_NOTE,
    MOST_DAYS,
    MOST_ITEMS,
    SetStage,
    list_stages,
    requirable_fields,
)
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.api.conditional import ReadHeaders, WriteHeaders, tagged
from serving.journal import origin_of_request
from serving.payloads import Asked, Given, Taken, whole
from serving.service import service, writing
from serving.set_by_admins import reset_stage_as, set_sales_as, set_stage_as

api: APIBlueprint = new_blueprint(
    "pipelines", "The stages of deals and what is set of selling: read by all, set by administrators."
)

_WRITTEN = documented(400, 403, 413, 415)
_Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, examples=["Proposal and quote"])]
_Item = Annotated[str, Field(min_length=1, max_length=LONGEST_ITEM, examples=["Send the brochure"])]
_Word = Annotated[str, Field(min_length=1, max_length=80)]
_SHARE: Final = r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$"
_Share = Annotated[str, Field(pattern=_SHARE, max_length=9, examples=["0.1"])]


class ChecklistItemBody(Taken):
    """Something to be done while a deal is in a stage."""

    text: _Item
    required: bool = Field(default=False, description="Whether before the deal leaves for a later stage.")


class PlaybookTaskBody(Taken):
    """A task that a deal's owner gets when it enters a stage."""

    text: _Item
    due_days: whole(0, MOST_DAYS) = Field(description="Days after it entered.")  # type: ignore[valid-type]  # made at run time


class StageIn(Taken):
    """What is set of a stage; its key, its place and whether it is won are fixed."""

    name_en: _Name
    name_zh: _Name
    rotting_days: whole(1, MOST_DAYS) = Field(description="Days in it after which a deal counts as stuck.")  # type: ignore[valid-type]  # made at run time
    required: list[Annotated[str, Field(min_length=1, max_length=120, examples=["amount"])]] = Field(
        default=[],
        max_length=100,
        description="Fields that a deal needs before a person moves it here, of `requirable`.",
    )
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] | None = Field(
        default=None, description="What whoever moves a deal here should know."
    )
    checklist: list[ChecklistItemBody] = Field(default=[], max_length=MOST_ITEMS)
    playbook: list[PlaybookTaskBody] = Field(default=[], max_length=MOST_ITEMS)


class ChecklistItemOut(Given):
    """Something to be done while a deal is in a stage."""

    key: str = Field(description="What ticking it off names; of the text, so another text is another item.")
    text: str
    required: bool


class PlaybookTaskOut(Given):
    """A task that a deal's owner gets when it enters a stage."""

    text: str
    due_days: int


class StageOut(Given):
    """A stage of a pipeline."""

    key: str
    name_en: str
    name_zh: str
    rotting_days: int
    required: list[str]
    won: bool
    note: str | None
    checklist: list[ChecklistItemOut]
    playbook: list[PlaybookTaskOut]
    version: int = Field(description="0: nothing of it was ever set.")
    is_set: bool = Field(description="Whether it is otherwise than the program has it.")


class PipelineOut(Given):
    """A pipeline, its stages in order."""

    name: str
    stages: list[StageOut]


class PipelinesOut(Given):
    """All pipelines."""

    items: list[PipelineOut]
    requirable: list[str] = Field(description="Fields of deals that a stage may require.")


class StagePath(Asked):
    """Which stage of which pipeline."""

    pipeline: _Word = Field(examples=["default"])
    stage: _Word = Field(description="Its key.", examples=["proposal"])


class RoleShares(Given):
    """By role, the share of the list price that it may give away without an approval; null: any."""

    rep: str | None
    manager: str | None
    admin: str | None


class RoleSharesIn(Taken):
    """By role, the share of the list price that it may give away without an approval; null: any."""

    rep: _Share | None = None
    manager: _Share | None = None
    admin: _Share | None = None


class SalesSettingsIn(Taken):
    """All that is set of selling; what is left out is empty."""

    company: Annotated[str, Field(max_length=LONGEST_COMPANY)] = Field(
        default="", description="Our name on quotes.", examples=["Acme Ltd"]
    )
    address: Annotated[str, Field(max_length=LONGEST_TEXT)] = Field(default="", description="Below the name.")
    footer: Annotated[str, Field(max_length=LONGEST_TEXT)] = Field(
        default="", description="At the end of a quote: bank, tax number."
    )
    limits: RoleSharesIn = RoleSharesIn()
    reminder_days: list[whole(1, 3650)] = Field(  # type: ignore[valid-type]  # made at run time
        default=[],
        max_length=10,
        description="Days late at which people are reminded of a payment; empty: never.",
        examples=[[1, 14, 30]],
    )


class SalesSettingsOut(Given):
    """What is set of selling."""

    company: str
    address: str
    footer: str
    limits: RoleShares
    reminder_days: list[int]
    version: int = Field(description="0: nothing was ever set.")


@api.get("/pipelines", responses={"200": PipelinesOut, **documented()})
def list_pipelines() -> Response:
    """List pipelines with their stages, as they were set."""
    with service().store.reading() as session:
        items = [
            PipelineOut(name=name, stages=[_stage(each) for each in list_stages(session, name)])
            for name in PIPELINES
        ]
        return answer(PipelinesOut(items=items, requirable=requirable_fields(session)))


@api.get(
    "/pipelines/<string:pipeline>/stages/<string:stage>",
    responses={"200": StageOut, **documented()},
)
def get_stage_of_pipeline(path: StagePath, header: ReadHeaders) -> Response:
    """Read a stage as it was set."""
    with service().store.reading() as session:
        found = _find(session, path)
    return header.answer(_stage(found), found.version)


@api.put("/pipelines/<string:pipeline>/stages/<string:stage>", responses={"200": StageOut, **_WRITTEN})
@requires(Scope.ADMIN)
def set_stage_of_pipeline(path: StagePath, header: WriteHeaders, body: StageIn) -> Response:
    """Set what a stage is called, when a deal in it is stuck, and what it needs; for administrators."""
    wanted = replace(
        get_stage(path.pipeline, path.stage),
        name_en=body.name_en,
        name_zh=body.name_zh,
        rotting_days=body.rotting_days,
        required=tuple(body.required),
        note=body.note,
        checklist=tuple(ChecklistItem(text=each.text, required=each.required) for each in body.checklist),
        playbook=tuple(PlaybookTask(text=each.text, due_days=each.due_days) for each in body.playbook),
    )
    with writing(caller(), Source.API) as transaction:
        version = header.version(_find(transaction.session, path).version)
        set_stage_as(transaction, caller(), path.pipeline, wanted, version, origin_of_request())
        return _set(transaction.session, path)


@api.post(
    "/pipelines/<string:pipeline>/stages/<string:stage>/reset",
    responses={"200": StageOut, **documented(403)},
)
@requires(Scope.ADMIN)
def reset_stage_of_pipeline(path: StagePath, header: WriteHeaders) -> Response:
    """Make a stage as the program has it; for administrators."""
    with writing(caller(), Source.API) as transaction:
        version = header.version(_find(transaction.session, path).version)
        reset_stage_as(transaction, caller(), path.pipeline, path.stage, version, origin_of_request())
        return _set(transaction.session, path)


@api.get("/sales-settings", responses={"200": SalesSettingsOut, **documented()})
def get_sales_settings(header: ReadHeaders) -> Response:
    """Read who we are on quotes, what needs an approval, and when people are reminded of payments."""
    with service().store.reading() as session:
        found = sales_settings(session)
    return header.answer(_sales(found), found.version)


@api.put("/sales-settings", responses={"200": SalesSettingsOut, **_WRITTEN})
@requires(Scope.ADMIN)
def put_sales_settings(header: WriteHeaders, body: SalesSettingsIn) -> Response:
    """Set all of it; for administrators."""
    limits = {role: Decimal(said) for role, said in body.limits.model_dump().items() if said is not None}
    with writing(caller(), Source.API) as transaction:
        present = sales_settings(transaction.session).version
        version = header.version(present)
        wanted = SalesSettings(
            company=body.company,
            address=body.address,
            footer=body.footer,
            limits=limits,
            reminder_days=tuple(body.reminder_days),
            version=present if version is None else version,
        )
        found = set_sales_as(transaction, caller(), wanted, origin_of_request())
        return tagged(_sales(found).model_dump_json(), found.version)


def _find(session: Session, path: StagePath) -> SetStage:
    stages = list_stages(session, path.pipeline)
    for each in stages:
        if each.stage.key == path.stage:
            return each
    raise StageNotInPipelineError(path.stage, tuple(each.stage.key for each in stages))


def _set(session: Session, path: StagePath) -> Response:
    found = _find(session, path)
    return tagged(_stage(found).model_dump_json(), found.version)


def _stage(found: SetStage) -> StageOut:
    return StageOut.model_validate({**vars(found.stage), "version": found.version, "is_set": found.is_set})


def _sales(found: SalesSettings) -> SalesSettingsOut:
    said = {role: share for role in RoleShares.model_fields for share in [found.limit_of(role)]}
    limits = {role: None if share is None else f"{share:f}" for role, share in said.items()}
    return SalesSettingsOut.model_validate({**vars(found), "limits": limits})
