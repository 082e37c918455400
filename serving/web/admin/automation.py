"""Automation: rules that act by themselves, trying them on the past, and what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_babel import LazyString
from flask_babel import lazy_gettext as _
from flask_login import current_user
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.automation.keeping import save_rule, set_active
from crm_core.automation.kept import (
    AutomationRun,
    Listed,
    Outcome,
    get_rule,
    list_rules,
    list_runs,
    list_versions,
)
from crm_core.automation.rehearsal import CUSTOMERS, NORMS, Rehearsed
from crm_core.automation.rules import Rule
from crm_core.automation.triggers import (
    DateReached,
    FieldChanged,
    Idle,
    ScoreCrossed,
    StageEntered,
    kind_of,
)
from crm_core.errors import CRMError
from crm_core.fields import model_of
from crm_core.saved import list_segments
from crm_core.store import Transaction
from serving.automation import try_on_past
from serving.finding import title_of
from serving.journal import origin_of_request
from serving.service import page_session, service
from serving.web.admin.automation_form import (
    ACTIONS,
    TRIGGERS,
    offered,
    read_form,
    rule_refusal,
    shown,
)
from serving.web.admin.automation_versions import known_of, tell_versions
from serving.web.admin.shelf import ROWS, page, pages, to, try_to
from serving.web.asked import whole
from serving.web.facts import labels_of
from serving.web.language import gettext, in_language
from serving.web.places import path_of
from serving.web.refusals import refusal
from serving.web.titles import told_titles
from serving.web.value_words import choices_held, condition_said, value_said
from serving.web.words import word

DAYS: Final = 30
MOST_SHOWN: Final = 50
_NEW: Final[dict[str, Any]] = {
    "name": "",
    "record_type": "lead",
    "trigger": {"kind": "record_created"},
    "condition": [],
    "actions": [{"kind": "notice"}],
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run, or what would have been one, as it is shown."""

    at: datetime
    name: str
    link: str | None
    run: AutomationRun | None = None


@pages.get("/automation")
def list_automation() -> str:
    """List the rules."""
    session = page_session()
    found = list_rules(session)
    names = [in_language(each.version.declared["name"]) for each in found]
    when = [summary(session, each.rule) for each in found]
    rules = zip(found, names, when, needs(session, [each.rule for each in found]), strict=True)
    return page("automation.html", rules=list(rules), is_on=service().settings.automation)


@pages.get("/automation/new")
def show_new_rule() -> str:
    """Show the form of a new rule."""
    return _form(None, _NEW)


@pages.get("/automation/<int:rule_id>")
def show_rule(rule_id: int) -> str:
    """Show a rule, with what it said before and what it did last."""
    found = get_rule(page_session(), rule_id)
    return _form(found, found.version.declared)


@pages.post("/automation/new")
def create_rule() -> ResponseReturnValue:
    """Keep a new rule, try what was typed, or show the inputs that it needs."""
    return _take(None)


@pages.post("/automation/<int:rule_id>")
def change_rule(rule_id: int) -> ResponseReturnValue:
    """Keep a new version of a rule, try what was typed, or show the inputs that it needs."""
    return _take(get_rule(page_session(), rule_id))


@pages.post("/automation/<int:rule_id>/<any(on, off):what>")
def switch_rule(rule_id: int, what: str) -> ResponseReturnValue:
    """Switch a rule on or off."""

    def act(transaction: Transaction) -> None:
        user = current_user.user
        set_active(transaction, user, rule_id, active=what == "on", origin=origin_of_request(user))

    refused = try_to(act)
    if refused is not None:
        found = get_rule(page_session(), rule_id)
        return make_response(_form(found, found.version.declared, refused=refused), 422)
    flash(
        gettext("The rule acts on what happens from now on.") if what == "on" else gettext("The rule is off.")
    )
    return redirect(to("list_automation"))


@pages.get("/automation/runs")
def list_automation_runs() -> str:
    """List what rules did, newest first."""
    session = page_session()
    before, rule_id = (request.args.get(name, type=whole) for name in ("before", "rule"))
    outcome = request.args.get("outcome", "")
    chosen = Outcome(outcome) if outcome in list(Outcome) else None
    runs = list_runs(session, rule_id=rule_id, outcome=chosen, before=before, limit=ROWS + 1)
    names = {each.kept.id: in_language(each.version.declared["name"]) for each in list_rules(session)}
    return page(
        "automation_runs.html",
        lines=_lines_of_runs(session, runs[:ROWS]),
        names=names,
        rule_id=rule_id,
        outcome=chosen,
        outcomes=list(Outcome),
        before=runs[ROWS - 1].id if len(runs) > ROWS else None,
    )


# ---------------------------------------------------------------- the form


def _take(found: Listed | None) -> ResponseReturnValue:
    session = page_session()
    try:
        declared = read_form(session, request.form)
    except CRMError as error:
        return make_response(_form(found, _NEW, refused=refusal(error)), 422)
    do = request.form.get("do", "show")
    if do == "try":
        return _try(found, declared)
    if do == "save":
        return _save(found, declared)
    return make_response(_form(found, declared))


def _try(found: Listed | None, declared: Mapping[str, Any]) -> ResponseReturnValue:
    store, zone = service().store, service().settings.time_zone
    try:
        tried = try_on_past(store, zone, page_session(), current_user.user, declared, days=DAYS)
    except CRMError as error:
        return make_response(_form(found, declared, refused=rule_refusal(error, declared)), 422)
    return make_response(_form(found, declared, tried=tried))


def _save(found: Listed | None, declared: Mapping[str, Any]) -> ResponseReturnValue:
    kept: list[int] = []
    rule_id = None if found is None else found.kept.id
    version = request.form.get("version", type=whole)

    def act(transaction: Transaction) -> None:
        user = current_user.user
        rule = save_rule(
            transaction, user, declared, origin=origin_of_request(user), rule_id=rule_id, version=version
        )
        kept.append(rule.id)

    refused = try_to(act, lambda error: rule_refusal(error, declared))
    if refused is not None:
        found = None if rule_id is None else get_rule(page_session(), rule_id)
        return make_response(_form(found, declared, refused=refused), 422)
    flash(gettext("Saved. Try it on the past, then switch it on.") if rule_id is None else gettext("Saved."))
    return redirect(to("show_rule", rule_id=kept[0]))


def _form(
    found: Listed | None,
    declared: Mapping[str, Any],
    *,
    refused: str | None = None,
    tried: Rehearsed | None = None,
) -> str:
    session = page_session()
    known = known_of(declared)
    record_type, user = known[0], current_user.user
    choices = offered(session, user, *known)
    rule_id = None if found is None else found.kept.id
    runs = [] if rule_id is None else list_runs(session, rule_id=rule_id, limit=10)
    return page(
        "automation_rule.html",
        found=found,
        form=shown(declared, choices),
        choices=choices,
        kinds={"trigger": list(TRIGGERS), "action": list(ACTIONS)},
        versions=[]
        if rule_id is None
        else tell_versions(session, user, list_versions(session, rule_id), {known: choices}),
        people=choices.names,
        lines=_lines_of_runs(session, runs),
        tried=tried,
        said=partial(condition_said, session, record_type),
        asked_now=_asked_now(session, record_type, tried),
        would=[] if tried is None else _lines(session, record_type, tried),
        days=DAYS,
        refused=refused,
    )


# ---------------------------------------------------------------- what is shown


def summary(session: Session, rule: Rule) -> str:
    """Return what sets a rule off, in words of the page."""
    said = word("trigger", kind_of(rule.trigger))
    match rule.trigger:
        case FieldChanged(field=name) | DateReached(field=name):
            detail = labels_of(session, rule.record_type, [name])[0]
            if isinstance(rule.trigger, FieldChanged) and rule.trigger.becomes:
                held = choices_held(session, rule.record_type, name)
                detail += " → " + ", ".join(value_said(held, each) for each in rule.trigger.becomes)
        case StageEntered(stage=stage):
            detail = word("stage", stage)
        case ScoreCrossed(level=level):
            detail = f"{level:.0%}"
        case Idle(amount=amount, unit=unit):
            detail = f"{amount:g} {word('time_unit', unit)}"
        case _:
            return said
    return f"{said}: {detail}"


def needs(session: Session, rules: Sequence[Rule]) -> list[str]:
    """Return what must hold for each rule to act, in words of the page."""
    user, asked = current_user.user, {each.record_type for each in rules}
    segments = {str(each.id): each.name for kind in asked for each in list_segments(session, user, kind)}
    return [
        "; ".join(condition_said(session, rule.record_type, each, segments) for each in rule.condition)
        for rule in rules
    ]


_PRESENT: Final[dict[str, LazyString]] = {
    NORMS: _("how long stages take as a rule"),
    CUSTOMERS: _("who is a customer"),
}


def _asked_now(session: Session, record_type: str, tried: Rehearsed | None) -> list[str]:
    """Return what could only be asked as of now, in words of the page."""
    asked = () if tried is None else tried.present
    return [str(_PRESENT.get(each) or condition_said(session, record_type, each)) for each in asked]


def _lines(session: Session, record_type: str, tried: Rehearsed) -> list[Line]:
    causes = tried.causes[:MOST_SHOWN]
    names = _names(session, [(record_type, cause.record_id) for cause in causes])
    return [
        Line(
            at=cause.at,
            name=names.get((record_type, cause.record_id), f"#{cause.record_id}"),
            link=path_of(record_type, cause.record_id),
        )
        for cause in causes
    ]


def _lines_of_runs(session: Session, runs: Sequence[AutomationRun]) -> list[Line]:
    names = _names(session, [(run.record_type, run.record_id) for run in runs])
    return [
        Line(
            at=run.at,
            name=names.get((run.record_type, run.record_id), f"#{run.record_id}"),
            link=path_of(run.record_type, run.record_id),
            run=run,
        )
        for run in runs
    ]


def _names(session: Session, records: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Return what records are called that the reader sees, by one query a type."""
    reader, found = Reader(session, current_user.user), dict[tuple[str, int], str]()
    for record_type in {each for each, _id in records}:
        model = model_of(session, record_type)
        ids = {record_id for each, record_id in records if each == record_type}
        told = told_titles(reader, record_type, ids)
        for record in session.scalars(reader.select(model).where(model.id.in_(ids))):
            found[record_type, record.id] = told.get(record.id) or title_of(reader.masked(record))
    return found
