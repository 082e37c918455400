"""Pipelines: what the stages of deals are called, how long is too long, and what a deal needs to enter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.pipelines import PIPELINES, ChecklistItem, PlaybookTask, Stage, get_stage
from crm_core.records import User
from crm_core.stage_settings import (
    LONGEST_NAME,
    LONGEST_NOTE,
    MOST_DAYS,
    list_stages,
    requirable_fields,
)
from crm_core.store import Transaction
from serving.journal import origin_of_request
from serving.service import page_session
from serving.set_by_admins import reset_stage_as, set_stage_as
from serving.web.admin.shelf import page, pages, to, try_to
from serving.web.facts import labels_of
from serving.web.language import gettext


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Why a form was refused; `stale` where somebody else has set the stage since it was opened."""

    stage: str
    why: str
    stale: bool = False


@pages.get("/pipelines")
def show_pipelines() -> str:
    """Show the stages of every pipeline, and what can be set of each."""
    return _show(None)


@pages.post("/pipelines/<pipeline>/<stage>")
def set_stage_of(pipeline: str, stage: str) -> ResponseReturnValue:
    """Set names, days, required fields and the note of a stage."""

    def act(transaction: Transaction) -> None:
        user: User = current_user.user
        wanted, origin = _wanted(pipeline, stage), origin_of_request(user)
        set_stage_as(transaction, user, pipeline, wanted, _seen_version(), origin)

    return _done(pipeline, stage, act, _wrong(), gettext("Saved. It holds from now on."))


@pages.post("/pipelines/<pipeline>/<stage>/reset")
def reset_stage_of(pipeline: str, stage: str) -> ResponseReturnValue:
    """Take back what was set of a stage."""

    def act(transaction: Transaction) -> None:
        user: User = current_user.user
        reset_stage_as(transaction, user, pipeline, stage, _seen_version(), origin_of_request(user))

    return _done(pipeline, stage, act, None, gettext("The stage is as it was at first."))


def _done(
    pipeline: str, stage: str, act: Callable[[Transaction], None], wrong: str | None, said: str
) -> ResponseReturnValue:
    if _is_stale(pipeline, stage):
        meanwhile = gettext("Somebody else has set this stage meanwhile. What you typed is kept below.")
        return make_response(_show(Refused(stage=stage, why=meanwhile, stale=True)), 409)
    wrong = wrong or try_to(act)
    if wrong is not None:
        return make_response(_show(Refused(stage=stage, why=wrong)), 422)
    flash(said)
    return redirect(to("show_pipelines", _anchor=f"stage-{stage}"))


def _is_stale(pipeline: str, stage: str) -> bool:
    """Tell whether the form was opened before the newest setting; the store looks once more as it writes."""
    known = {each.stage.key: each.version for each in list_stages(page_session(), pipeline)}
    return stage in known and known[stage] != _seen_version()


def _wanted(pipeline: str, stage: str) -> Stage:
    return replace(
        get_stage(pipeline, stage),
        name_en=request.form.get("name_en", "").strip(),
        name_zh=request.form.get("name_zh", "").strip(),
        rotting_days=_days() or 0,
        required=tuple(request.form.getlist("required")),
        note=request.form.get("note", ""),
        checklist=tuple(
            ChecklistItem(text=line.removeprefix("!").strip(), required=line.startswith("!"))
            for line in _lines("checklist")
        ),
        playbook=tuple(map(_task, _lines("playbook"))),
    )


def _lines(name: str) -> list[str]:
    return [line.strip() for line in request.form.get(name, "").splitlines() if line.strip()]


def _task(line: str) -> PlaybookTask:
    """Return a task of the playbook as it was typed: `3: Send the brochure`, or without days for today."""
    days, colon, text = line.replace("\uff1a", ":").partition(":")
    if colon and days.strip().isascii() and days.strip().isdigit() and len(days.strip()) < 6:
        return PlaybookTask(text=text.strip(), due_days=int(days))
    return PlaybookTask(text=line, due_days=0)


def _wrong() -> str | None:
    """Return what is wrong with the form, in the reader's words; what only the store knows, it says."""
    if not all(request.form.get(name, "").strip() for name in ("name_en", "name_zh")):
        return gettext("A stage needs a name in both languages.")
    if _days() is None:
        return gettext("Days are a whole number from 1 to %(most)s.", most=MOST_DAYS)
    return None


def _days() -> int | None:
    said = request.form.get("rotting_days", "").strip()
    days = int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0
    return days if 1 <= days <= MOST_DAYS else None


def _seen_version() -> int:
    return request.form.get("version", -1, type=int)


def _show(refused: Refused | None) -> str:
    session = page_session()
    fields = requirable_fields(session)
    labels = labels_of(session, "deal", fields)
    return page(
        "pipelines.html",
        pipelines={pipeline: list_stages(session, pipeline) for pipeline in PIPELINES},
        fields=dict(zip(fields, labels, strict=True)),
        wrong=refused,
        refused=None if refused is None else refused.why,
        typed=request.form,
        limits={"name": LONGEST_NAME, "note": LONGEST_NOTE, "days": MOST_DAYS},
    )
