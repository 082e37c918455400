"""Automation over HTTP: rules, trying them on the past, and what they did; for administrators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field, JsonValue

from crm_core.access import check_may_administer
from crm_core.automation.keeping import save_rule, set_active
from crm_core.automation.kept import (
    Listed,
    Outcome,
    get_rule,
    list_rules,
    list_runs,
    list_versions,
)
from crm_core.automation.rehearsal import MOST_DAYS, Rehearsed
from crm_core.changes import Source
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.api.conditional import ReadHeaders, WriteHeaders, created, tagged
from serving.api.pages import PageQuery, cursor_of
from serving.automation import try_on_past
from serving.journal import origin_of_request
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc, whole
from serving.service import service, writing

api: APIBlueprint = new_blueprint("automation", "Rules that act by themselves (docs/automation.md).")

MOST_TOLD = 200

_Part = dict[str, JsonValue]
_Text = Annotated[str, Field(min_length=1, max_length=200)]


class BothLanguages(Taken):
    """A text in both languages."""

    en: _Text
    zh: _Text


class RuleGiven(Taken):
    """What a rule says, see docs/automation.md."""

    name: _Text | BothLanguages
    record_type: _Text = Field(description="A record type, built in or declared.")
    trigger: _Part = Field(
        description="What sets it off: a `kind` and what belongs to that.",
        examples=[{"kind": "stage_entered", "stage": "proposal"}],
    )
    condition: list[Annotated[str, Field(max_length=2_000)]] = Field(
        default_factory=list, max_length=20, description="As lists and segments are filtered."
    )
    actions: list[_Part] = Field(
        min_length=1,
        max_length=10,
        description="What it does, in this order: each a `kind` and what belongs to that.",
        examples=[[{"kind": "notice", "to": ["owner"], "text": "Ask presales"}]],
    )

    def declared(self) -> dict[str, Any]:
        """Return it as rules are kept."""
        return self.model_dump(include={"name", "record_type", "trigger", "condition", "actions"})


class RuleToTry(RuleGiven):
    """A rule that is tried on the past; it need not be kept."""

    days: whole(1, MOST_DAYS) = Field(default=30, description="How far back.")  # type: ignore[valid-type]  # made at run time


class RuleOut(Given):
    """A rule as it is now."""

    id: int
    shipped: str | None = Field(description="The name of a rule that came along.")
    active: bool
    version: int
    since: Utc | None = Field(description="When it was switched on last.")
    runs: int = Field(description="How often it acted.")
    last_run_at: Utc | None
    rule: dict[str, Any] = Field(description="What it says, as it is given.")


class RulesPage(Given):
    """Rules, in the order in which they were made."""

    items: list[RuleOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class RuleVersionOut(Given):
    """What a rule said."""

    version: int
    saved_at: Utc
    saved_by_id: int | None = Field(description="Null: it came along.")
    rule: dict[str, Any]


class RuleVersionsPage(Given):
    """What a rule said and says, the newest first."""

    items: list[RuleVersionOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class TriedCause(Given):
    """Something that would have set the rule off."""

    record_id: int
    at: Utc
    cause: str


class TriedOut(Given):
    """What would have set a rule off, the latest first; nothing was done."""

    since: Utc
    until: Utc
    count: int
    records: int = Field(description="Different records among them.")
    present: list[str] = Field(
        description="What could only be asked of the present: conditions, `norms` or `customers`."
    )
    cut: bool = Field(description="There was more than is counted.")
    items: list[TriedCause] = Field(description=f"The latest, no more than {MOST_TOLD}.")


class RuleRunsQuery(Asked):
    """Which runs."""

    rule_id: Id | None = Field(default=None, description="Only of this rule.")
    record_type: Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description="Only about records of this type; with `record_id`."
    )
    record_id: Id | None = Field(default=None, description="Only about this record.")
    outcome: Literal["done", "nobody", "failed", "too_deep"] | None = Field(
        default=None, description="Only with this end."
    )
    limit: int = Field(default=50, ge=1, le=200, description="Runs on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class RuleRunOut(Given):
    """What a rule did about one cause."""

    id: int
    rule_id: int
    version: int
    cause: str
    record_type: str
    record_id: int
    caused_at: Utc
    at: Utc
    outcome: str
    depth: int
    did: list[dict[str, Any]] = Field(description="By action, in their order.")
    error: str | None = Field(description="The kind of the error, where it failed.")


class RuleRunsPage(Given):
    """Runs, newest first."""

    items: list[RuleRunOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


@api.get("/automation/rules", responses={"200": RulesPage, **documented(403)})
@requires(Scope.ADMIN)
def list_automation_rules(query: PageQuery) -> Response:
    """List the rules of automation."""
    check_may_administer(caller())
    with service().store.reading() as session:
        found, more = query.part(list_rules(session), lambda each: (each.kept.id,))
    return answer(RulesPage(items=[RuleOut(**_told(each)) for each in found], next_cursor=more))


@api.post("/automation/rules", responses={"201": RuleOut, **documented(400, 403, 404, 409, 413, 415)})
@requires(Scope.ADMIN)
def create_automation_rule(body: RuleGiven) -> Response:
    """Keep a new rule, switched off; one that would set off itself is refused."""
    kept, told = _save(body, None, None)
    return created(told, f"automation/rules/{kept}", told.version)


@api.get("/automation/rules/<int:id>", responses={"200": RuleOut, **documented(403, 404)})
@requires(Scope.ADMIN)
def get_automation_rule(path: RecordPath, header: ReadHeaders) -> Response:
    """Read a rule."""
    check_may_administer(caller())
    with service().store.reading() as session:
        found = get_rule(session, path.id)
    return header.answer(RuleOut(**_told(found)), found.kept.version)


@api.get("/automation/rules/<int:id>/versions", responses={"200": RuleVersionsPage, **documented(403, 404)})
@requires(Scope.ADMIN)
def list_automation_rule_versions(path: RecordPath, query: PageQuery) -> Response:
    """List what a rule said and says, the newest first."""
    check_may_administer(caller())
    with service().store.reading() as session:
        get_rule(session, path.id)
        found = list_versions(session, path.id, before=query.before(), limit=query.limit + 1)
    page = found[: query.limit]
    items = [
        RuleVersionOut(
            version=each.version, saved_at=each.saved_at, saved_by_id=each.saved_by_id, rule=each.declared
        )
        for each in page
    ]
    more = cursor_of((page[-1].version,)) if len(found) > query.limit else None
    return answer(RuleVersionsPage(items=items, next_cursor=more))


@api.put("/automation/rules/<int:id>", responses={"200": RuleOut, **documented(400, 403, 404, 409, 413, 415)})
@requires(Scope.ADMIN)
def change_automation_rule(path: RecordPath, header: WriteHeaders, body: RuleGiven) -> Response:
    """Have a rule say something else from now on: a new version of it."""
    _, told = _save(body, path.id, header)
    return tagged(told.model_dump_json(), told.version)


@api.post("/automation/rules/<int:id>/on", responses={"200": RuleOut, **documented(403, 404, 409)})
@requires(Scope.ADMIN)
def switch_automation_rule_on(path: RecordPath) -> Response:
    """Switch a rule on: it acts on what happens from now on."""
    return _switch(path.id, active=True)


@api.post("/automation/rules/<int:id>/off", responses={"200": RuleOut, **documented(403, 404, 409)})
@requires(Scope.ADMIN)
def switch_automation_rule_off(path: RecordPath) -> Response:
    """Switch a rule off."""
    return _switch(path.id, active=False)


@api.post(
    "/automation/rules/dry-run", responses={"200": TriedOut, **documented(400, 403, 404, 409, 413, 415)}
)
@requires(Scope.ADMIN)
def try_automation_rule(body: RuleToTry) -> Response:
    """Find out what would have set a rule off of late, without doing anything."""
    check_may_administer(caller())
    with service().store.reading() as session:
        found = try_on_past(
            service().store,
            service().settings.time_zone,
            session,
            caller(),
            body.declared(),
            days=body.days,
        )
    return answer(_tried(found))


@api.get("/automation/runs", responses={"200": RuleRunsPage, **documented(403)})
@requires(Scope.ADMIN)
def list_automation_runs(query: RuleRunsQuery) -> Response:
    """List what rules did, newest first."""
    check_may_administer(caller())
    about = None
    if query.record_type is not None and query.record_id is not None:
        about = (query.record_type, query.record_id)
    with service().store.reading() as session:
        found = list_runs(
            session,
            rule_id=query.rule_id,
            about=about,
            outcome=None if query.outcome is None else Outcome(query.outcome),
            before=query.cursor,
            limit=query.limit + 1,
        )
        items = [RuleRunOut.model_validate(each) for each in found[: query.limit]]
    more = len(found) > query.limit
    return answer(RuleRunsPage(items=items, next_cursor=items[-1].id if more else None))


def _save(body: RuleGiven, rule_id: int | None, header: WriteHeaders | None) -> tuple[int, RuleOut]:
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        version = None
        if rule_id is not None and header is not None:
            version = header.version(get_rule(transaction.session, rule_id).kept.version)
        kept = save_rule(
            transaction,
            caller(),
            body.declared(),
            origin=origin_of_request(caller()),
            rule_id=rule_id,
            version=version,
        )
        transaction.session.flush()
        return kept.id, RuleOut(**_told(get_rule(transaction.session, kept.id)))


def _switch(rule_id: int, *, active: bool) -> Response:
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        set_active(transaction, caller(), rule_id, active=active, origin=origin_of_request(caller()))
        told = RuleOut(**_told(get_rule(transaction.session, rule_id)))
    return tagged(told.model_dump_json(), told.version)


def _told(found: Listed) -> dict[str, Any]:
    return {
        "id": found.kept.id,
        "shipped": found.kept.shipped,
        "active": found.kept.active,
        "version": found.kept.version,
        "since": found.kept.since,
        "runs": found.runs,
        "last_run_at": found.last_at,
        "rule": found.version.declared,
    }


def _tried(found: Rehearsed) -> TriedOut:
    items = [
        TriedCause(record_id=cause.record_id, at=cause.at, cause=cause.key)
        for cause in found.causes[:MOST_TOLD]
    ]
    return TriedOut(
        since=found.since,
        until=found.until,
        count=len(found.causes),
        records=found.records,
        present=list(found.present),
        cut=found.cut,
        items=items,
    )
