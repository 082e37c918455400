"""What every operation of the API gives to whom: the one table that `test_access` tries in full.

Ana is a rep, Mara her manager, Dana an analyst, Adam an administrator. Records are Ana's own, of her team
(Ben's), of another team (Otto's), of nobody, or were deleted (and Ana's before).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from crm_core.tokens import Scope
from serving.api.records import LOGGED_ON
from tests.serving.record_operations import PATHS

WHOSE: Final = ("own", "team", "other", "nobody", "deleted")
_LIVING = frozenset(WHOSE) - {"deleted"}

WORK: Final[Mapping[str, frozenset[str]]] = {
    "Ana": frozenset({"own"}),
    "Mara": frozenset({"own", "team", "nobody"}),
    "Dana": _LIVING,
    "Adam": _LIVING,
}
"""Whose of what people work on each of them sees."""

SHARED: Final[Mapping[str, frozenset[str]]] = dict.fromkeys(WORK, _LIVING)
SAID: Final[Mapping[str, frozenset[str]]] = {
    **WORK,
    "Dana": frozenset(WHOSE),
    "Adam": frozenset(WHOSE),
}
"""What was said of a deleted record is still explained to who answers for models."""
KEYS: Final[Mapping[str, frozenset[str]]] = {
    "Ana": frozenset({"own", "deleted"}),  # one that was revoked is still there
    "Mara": frozenset(),
    "Dana": frozenset(),
    "Adam": frozenset({"own", "team", "other", "deleted"}),
}
"""Whose API keys each of them may revoke; that of nobody is not there."""
ONE: Final[Mapping[str, frozenset[str]]] = dict.fromkeys(WORK, frozenset({"own"}))
"""What belongs to the company: there is one."""

REPORTS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(WORK, frozenset[str]()),
    "Ana": frozenset({"own"}),
}
"""What is kept for oneself is seen by nobody else."""

EVERYBODY: Final = frozenset(WORK)
WRITERS: Final = EVERYBODY - {"Dana"}
PROMOTERS: Final = frozenset({"Dana", "Adam"})
LEADERS: Final = frozenset({"Mara", "Adam"})
ADMIN: Final = frozenset({"Adam"})

WRITERS_OF: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(PATHS, WRITERS),
    "campaign": LEADERS,
    **dict.fromkeys(("product", "user", "team"), ADMIN),
}
"""Who may change records of a type that they see."""

SEEN: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    **dict.fromkeys(PATHS, WORK),
    **dict.fromkeys(("campaign", "product", "user", "team", "article"), SHARED),
    **dict.fromkeys(("lead prediction", "deal prediction", "account prediction"), SAID),
    **dict.fromkeys(("spare lead", "spare deal"), WORK),  # which come to an end while they are tried
    **dict.fromkeys(("deal alert", "account alert"), WORK),
    "key": KEYS,
    **dict.fromkeys(("webhook", "job", "mail sequence"), ONE),
    **dict.fromkeys(("report", "spare report", "segment", "spare segment", "view", "spare view"), REPORTS),
    "mail template": {**REPORTS, "Adam": frozenset({"own"})},
    "intake item": {**WORK, "Mara": frozenset(WHOSE), "Adam": frozenset(WHOSE)},
}
"""By what an operation is about, whose of it each person sees."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Who may call an operation about what, and what comes of it."""

    scope: Scope
    about: tuple[str, ...] = ()
    """What `{id}` may name; nothing: the operation is about no record."""
    who: frozenset[str] = EVERYBODY
    """Who may do it with what they see; the others are refused with 403."""
    given: frozenset[int] = frozenset({200})
    """What those get who may."""
    unseen: frozenset[int] = frozenset({404})
    """What those get who do not see what it is about."""
    body: Any = None
    """What is sent; `ID`, `OTHER` and `ADAM` stand for ids. A text names a body that the world knows."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


ID, TWIN, ADAM = "<the record's id>", "<the id of a record beside it>", "<Adam's id>"
MARA = "<Mara's id>"

_READ = Rule(scope=Scope.READ)
_BESIDE = {"If-Match": '"999-none"'}
"""Who may delete is told that the record has changed since, so that it stays there for the next one."""


_HELLO = {"name": "Hello", "subject": "Hello", "body": "Hello"}
"""A template of mails."""

_A_FORM = {"name": "Contact us", "fields": [{"field": "email", "required": True}]}
"""A web form to be made."""


def _of(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


def _of_records(record_type: str) -> dict[str, Rule]:
    path, about, who = PATHS[record_type], (record_type,), WRITERS_OF[record_type]
    read = Rule(scope=Scope.READ, about=about)

    def write(*statuses: int, **more: Any) -> Rule:
        return Rule(scope=Scope.WRITE, about=about, who=who, given=_of(*statuses), **more)

    found = {
        f"GET /{path}": _READ,
        f"POST /{path}": Rule(scope=Scope.WRITE, who=who, given=_of(201, 409), body="new"),
        f"GET /{path}/{{id}}": read,
        f"GET /{path}/{{id}}/timeline": read,
        f"PATCH /{path}/{{id}}": write(200, body="change"),
        f"DELETE /{path}/{{id}}": write(412, headers=_BESIDE),
        f"PUT /{path}/by-external-id/{{external_id}}": write(200, body="same", unseen=_of(409)),
    }
    if record_type in LOGGED_ON | {"deal"}:
        found[f"GET /{path}/{{id}}/activities"] = read
        found[f"POST /{path}/{{id}}/activities"] = write(201, body={"kind": "call"})
    return found


def _of_scored() -> dict[str, Rule]:
    asked = Rule(scope=Scope.SCORE)
    each = {"leads": "lead", "deals": "deal", "customers": "account"}
    found = {
        f"POST /{path}/{{id}}/score": Rule(scope=Scope.SCORE, about=(record_type,))
        for path, record_type in each.items()
    }
    supposed = {"leads": {"name": "Wang Fang"}, "deals": {"stage": "needs"}, "customers": {"name": "Hill"}}
    for path, body in supposed.items():
        found[f"POST /{path}/score-hypothetical"] = Rule(scope=Scope.SCORE, who=WRITERS, body=body)
    types = tuple(each.values())
    read = Rule(scope=Scope.READ, about=types)
    return found | {
        "POST /{type}/scores": Rule(scope=asked.scope, body={"ids": [2**60]}),  # rows are looked at below
        "GET /{type}/{id}/score": read,
        "GET /{type}/{id}/score-now": Rule(scope=Scope.SCORE, about=types),
        "GET /{type}/{id}/predictions": read,
        "GET /{type}/{id}/suggestions": read,
        "GET /{type}/{id}/what-would-change": Rule(scope=Scope.READ, about=types, given=_of(200, 409, 503)),
    }


def _of_verbs() -> dict[str, Rule]:
    def verb(about: tuple[str, ...], body: Any, *statuses: int) -> Rule:
        return Rule(scope=Scope.WRITE, about=about, who=WRITERS, given=_of(*statuses), body=body)

    people = ("lead", "contact", "account")
    return {
        # What was done for one person is refused to the next one with 409, which only those learn who may.
        "POST /leads/{id}/convert": verb(("spare lead",), {}, 200, 409),
        "POST /leads/{id}/disqualify": verb(("spare lead",), {"reason": "Gone"}, 200, 409),
        "POST /leads/{id}/reopen": verb(("spare lead",), {}, 200, 409),
        "POST /deals/{id}/stage": verb(("deal",), {"stage": "needs"}, 200, 409),
        "POST /deals/{id}/close": verb(("spare deal",), {"outcome": "lost", "reason": "Price"}, 200, 409),
        "POST /deals/{id}/reopen": verb(("spare deal",), {}, 200, 409),
        "POST /{type}/{id}/merge": verb(people, {"gone_id": ID}, 409, 422),
        "POST /{type}/{id}/distinct": verb(people, {"other_id": TWIN}, 200),
        "POST /users/{id}/leave": Rule(
            scope=Scope.WRITE, about=("user",), who=ADMIN, given=_of(409), body={"heir_ids": [2**60]}
        ),
        "POST /{type}/{id}/scoring-opt-out": verb(people, {"opted_out": False}, 200),
    }


_WEEK: Final = {"zone": "UTC", "week": [[["09:00", "18:00"]]] * 5 + [[], []]}
_DAYS: Final = {"first_day": "2026-03-02", "last_day": "2026-03-03"}


def _of_service() -> dict[str, Rule]:
    def verb(about: str, body: Any, *statuses: int, who: frozenset[str] = WRITERS) -> Rule:
        return Rule(scope=Scope.WRITE, about=(about,), who=who, given=_of(*statuses), body=body)

    queue = Rule(scope=Scope.WRITE, who=ADMIN, given=_of(200, 201), body={"name": "Help"})
    minutes = {"first_minutes": 60, "solve_minutes": 480}
    return {
        "POST /tickets/{id}/answer": verb("ticket", {"text": "Hello"}, 201),
        "POST /tickets/{id}/assign": verb("ticket", {}, 422),  # no queue, whose people would take turns
        "POST /tickets/{id}/merge": verb("ticket", {"gone_id": ID}, 409),
        "GET /tickets/{id}/suggestions": Rule(scope=Scope.READ, about=("ticket",)),
        "GET /articles/{id}/versions": Rule(scope=Scope.READ, about=("article",)),
        "POST /articles/{id}/restore": verb("article", {"number": 1}, 200),
        "POST /articles/{id}/helpful": verb("article", {"ticket_id": 2**60, "helpful": True}, 404),
        "POST /accounts/{id}/feedback": verb("account", {"kind": "idea", "text": "Blue"}, 201),
        "GET /service": _READ,
        "GET /service/figures": _READ,
        "PUT /service/queues/{key}": queue,
        "GET /service/queues/{key}": Rule(scope=Scope.READ, given=_of(200, 404)),
        "GET /working-time": _READ,
        "PUT /working-time": Rule(scope=Scope.WRITE, who=ADMIN, body=_WEEK),
        "PUT /working-time/days/{day}": Rule(
            scope=Scope.WRITE, who=ADMIN, given=_of(204), body={"worked": None}
        ),
        "GET /users/{id}/absences": Rule(scope=Scope.READ, about=("user",), unseen=_of(200)),
        "POST /users/{id}/absences": Rule(
            scope=Scope.WRITE, about=("user",), who=ADMIN, given=_of(201), body=_DAYS
        ),
        "GET /users/{id}/absences/{absence_id}": Rule(scope=Scope.READ, about=("user",), given=_of(404)),
        "DELETE /users/{id}/absences/{absence_id}": verb("user", None, 404, who=ADMIN),
        "PUT /service/targets": Rule(scope=Scope.WRITE, who=ADMIN, body={"priority": "low", **minutes}),
    }


def _of_models() -> dict[str, Rule]:
    read = Rule(scope=Scope.READ, who=PROMOTERS)
    found = dict.fromkeys(("GET /models", "GET /models/{task}/versions", "GET /rescoring"), read)
    reason = {"reason": "Better"}
    said = ("lead prediction", "deal prediction", "account prediction")
    return found | {
        "GET /models/{task}/versions/{version}": Rule(scope=Scope.READ, who=PROMOTERS, given=_of(200, 404)),
        "GET /models/{task}/history": Rule(scope=Scope.MODELS, who=PROMOTERS),
        "GET /models/{task}/shadow": Rule(scope=Scope.MODELS, who=PROMOTERS, given=_of(200, 404)),
        "POST /models/{task}/promote": Rule(
            scope=Scope.MODELS, who=PROMOTERS, given=_of(404), body={"version": "churn-9", **reason}
        ),
        "POST /models/{task}/rollback": Rule(
            scope=Scope.MODELS, who=PROMOTERS, given=_of(404, 409), body=reason
        ),
        "GET /predictions/{id}": Rule(scope=Scope.READ, about=said),
        "POST /predictions/{id}/recompute": Rule(
            scope=Scope.SCORE, about=said, who=PROMOTERS, given=_of(404, 409, 503)
        ),
        "POST /predictions/{id}/feedback": Rule(
            scope=Scope.WRITE, about=said, given=_of(201), body={"verdict": "right"}
        ),
        "GET /feedback": _READ,
    }


def _of_alerts() -> dict[str, Rule]:
    about = ("deal alert", "account alert")

    def act(body: Any) -> Rule:
        return Rule(scope=Scope.WRITE, about=about, who=WRITERS, body=body)

    return {
        "GET /alerts": _READ,
        "GET /alerts/past": _READ,
        "GET /alerts/{id}": Rule(scope=Scope.READ, about=about),
        "POST /alerts/{id}/acknowledge": act({}),
        "POST /alerts/{id}/snooze": act({"until": "2026-03-09T09:00:00Z"}),
        "POST /alerts/{id}/assign": act({"assignee_id": ADAM}),
        "POST /alerts/{id}/reopen": act({}),
    }


def _of_automation(run: Callable[..., Rule]) -> dict[str, Rule]:
    rule = {
        "name": "Look",
        "record_type": "lead",
        "trigger": {"kind": "record_created"},
        "actions": [{"kind": "notice", "text": "Look"}],
    }
    return {
        "GET /automation/rules": run(),
        "POST /automation/rules": run(201, body=rule),
        "GET /automation/rules/{id}": run(404),
        "GET /automation/rules/{id}/versions": run(404),
        "PUT /automation/rules/{id}": run(404, body=rule),
        "POST /automation/rules/{id}/on": run(404),
        "POST /automation/rules/{id}/off": run(404),
        "POST /automation/rules/dry-run": run(body=rule),
        "GET /automation/runs": run(),
    }


def _of_the_house() -> dict[str, Rule]:
    def run(*statuses: int, about: tuple[str, ...] = (), body: Any = None, query: str = "") -> Rule:
        given = _of(*(statuses or (200,)))
        return Rule(scope=Scope.ADMIN, about=about, who=ADMIN, given=given, body=body, query=query)

    hook = ("webhook",)
    person = {"mail": "no@body.example"}
    new_hook = {"name": "Shop", "url": "https://93.184.216.34/hook", "event_types": ["deal.won"]}
    new_key = {"name": "Sync", "scopes": ["admin"]}
    return {
        "GET /webhooks": run(),
        "POST /webhooks": run(201, body=new_hook),
        "GET /webhooks/event-types": run(),
        "GET /webhooks/{id}": run(about=hook),
        "PATCH /webhooks/{id}": run(about=hook, body={"name": "Shop"}),
        "DELETE /webhooks/{id}": run(404),  # of one that is not there: the others need this one
        "POST /webhooks/{id}/rotate-secret": run(200, 409, about=hook),
        "POST /webhooks/{id}/test": run(202, about=hook),
        "GET /webhooks/{id}/deliveries": run(about=hook),
        "POST /webhooks/{id}/deliveries/{delivery_id}/redeliver": run(404, about=hook),
        **_of_automation(run),
        "GET /jobs": run(),
        "GET /jobs/{id}": run(about=("job",)),
        "POST /jobs/{id}/revive": run(200, 404, 409, about=("job",)),
        "GET /operations": run(),
        "GET /tokens": Rule(scope=Scope.ADMIN),
        "POST /tokens": Rule(scope=Scope.ADMIN, given=_of(201), body=new_key),
        "GET /tokens/{id}": Rule(scope=Scope.ADMIN, about=("key",)),
        "DELETE /tokens/{id}": Rule(scope=Scope.ADMIN, about=("key",)),
        **{
            f"POST /people/{verb}": Rule(scope=Scope.PEOPLE, who=ADMIN, body=person)
            for verb in ("find", "export", "erase")
        },
        "GET /me": _READ,
    }


def _of_mail() -> dict[str, Rule]:
    def taken(body: Any, *statuses: int) -> Rule:
        return Rule(scope=Scope.INTAKE, who=ADMIN, given=_of(*(statuses or (200,))), body=body)

    def write(
        *statuses: int, about: tuple[str, ...] = (), body: Any = None, who: frozenset[str] = WRITERS
    ) -> Rule:
        given = _of(*(statuses or (200,)))
        return Rule(scope=Scope.WRITE, who=who, about=about, given=given, body=body)

    sequence = {"name": "Warm up", "record_type": "lead", "steps": [{"template_id": 2**60}]}
    call = {"id": "1", "from_number": "1", "to_number": "2", "started_at": "2026-03-02T08:00:00Z"}
    chat = {"id": "m", "at": "2026-03-02T08:00:00Z", "by_us": False, "text": "Hello"}
    letter = {"type": "lead", "id": ID, "to": "x@y.example", "subject": "Hello", "text": "Hello"}
    return {
        "POST /intake/mail": taken({"raw": "RnJvbTogYUBiLmV4YW1wbGUKCmhpCg=="}),
        "POST /intake/calls": taken({**call, "direction": "inbound"}),
        "POST /intake/chats": taken({"id": "c", "who": "somebody", "messages": [chat]}),
        "POST /intake/calendar": taken({"ics": "no calendar"}, 422),
        "GET /intake/items": _READ,
        "POST /intake/items/{id}/assign": write(
            404, about=("intake item",), body={"type": "lead", "id": 2**60}
        ),
        # What was settled for one person is no more to be settled by the next one.
        "POST /intake/items/{id}/ticket": write(422, 412, about=("intake item",), body={}),
        "POST /intake/items/{id}/lead": write(201, 412, about=("intake item",)),
        "POST /intake/items/{id}/drop": write(204, 412, about=("intake item",)),
        "POST /mails": write(201, about=("lead",), body=letter),
        "GET /mails": Rule(scope=Scope.READ, given=_of(404), query=f"type=lead&record_id={2**60}"),
        "GET /mail-templates": _READ,
        "POST /mail-templates": write(201, body=_HELLO),
        "GET /mail-templates/places": _READ,
        "GET /mail-templates/{id}": Rule(scope=Scope.READ, about=("mail template",)),
        "GET /mail-templates/{id}/filled": Rule(
            scope=Scope.READ, about=("mail template",), given=_of(404), query=f"type=lead&record_id={2**60}"
        ),
        "PUT /mail-templates/{id}": write(about=("mail template",), body=_HELLO),
        "DELETE /mail-templates/{id}": Rule(
            scope=Scope.WRITE, about=("mail template",), who=WRITERS, given=_of(412), headers=_BESIDE
        ),
        "GET /mail-sequences": _READ,
        "GET /mail-sequences/{id}": Rule(scope=Scope.READ, about=("mail sequence",)),
        "GET /mail-sequences/{id}/runs": Rule(scope=Scope.READ, about=("mail sequence",)),
        "POST /mail-sequences/{id}/runs/{run_id}/stop": write(404, who=EVERYBODY),
        "POST /mail-sequences": write(404, body=sequence, who=LEADERS),  # there is no such template
        "PUT /mail-sequences/{id}": write(404, body=sequence, who=LEADERS),
        "POST /mail-sequences/{id}/start": write(404, body={"record_id": 1}),
    }


def _of_settings() -> dict[str, Rule]:
    stage, sales = "/pipelines/{pipeline}/stages/{stage}", {"limits": {"rep": "0.1"}}
    named = {"name_en": "Needs", "name_zh": "需求沟通", "rotting_days": 21}

    def setting(body: Any = None, *statuses: int) -> Rule:
        return Rule(scope=Scope.ADMIN, who=ADMIN, given=_of(*(statuses or (200,))), body=body)

    return {
        **dict.fromkeys(("GET /pipelines", f"GET {stage}", "GET /sales-settings"), _READ),
        f"PUT {stage}": setting(named),
        f"POST {stage}/reset": setting(),
        "PUT /sales-settings": setting(sales),
        **_of_declared(setting),
    }


def _of_oneself() -> dict[str, Rule]:
    def own(*statuses: int, body: Any = None) -> Rule:
        return Rule(scope=Scope.WRITE, given=_of(*(statuses or (200,))), body=body)

    return {
        **dict.fromkeys(("GET /notifications", "GET /me/settings", "GET /me/calendar-feed"), _READ),
        "POST /notifications/read": own(body={"ids": [2**60]}),
        "PATCH /me/settings": own(body={"records_a_day": 9}),
        "POST /me/calendar-feed": own(201),
        "DELETE /me/calendar-feed": own(204),
    }


def _of_declared(setting: Callable[..., Rule]) -> dict[str, Rule]:
    types, fields = "/record-types", "/record-types/{type}/fields"
    named = {"name": "shop", "label_en": "Shop", "label_zh": "店"}
    field: dict[str, Any] = {"name": "rank", "kind": "text", "known": "history"}
    return {
        **dict.fromkeys((f"GET {types}", f"GET {fields}"), _READ),
        f"POST {types}": setting(named, 201),
        f"GET {types}/{{type}}": _READ,
        f"GET {fields}/{{name}}": Rule(scope=Scope.READ, given=_of(422)),
        f"PATCH {types}/{{type}}": setting({}, 422),  # a built-in type is no declared one
        f"POST {types}/{{type}}/retire": setting(None, 422),
        f"POST {types}/{{type}}/restore": setting(None, 422),
        f"POST {fields}": setting(field, 201),
        f"PATCH {fields}/{{name}}": setting({}, 422),
        f"POST {fields}/{{name}}/retire": setting(None, 422),
        f"POST {fields}/{{name}}/restore": setting(None, 422),
    }


def _of_all_types() -> dict[str, Rule]:
    return {
        "POST /batch": Rule(
            scope=Scope.WRITE,
            who=WRITERS,
            body={"operations": [{"op": "delete", "type": "leads", "id": 2**60}]},
        ),  # rows are looked at below
        "GET /changes": Rule(scope=Scope.READ, query="after=0"),
        "GET /forecast": Rule(scope=Scope.READ, given=_of(200, 409)),
        "GET /reports": _READ,
        "GET /reports/run": Rule(scope=Scope.READ, query="measures=deals_won&rows=owner"),
        "GET /reports/retention": _READ,
        "POST /reports": Rule(
            scope=Scope.WRITE, given=_of(201), body={"name": "Won", "measures": ["deals_won"]}
        ),
        "GET /reports/{id}": Rule(scope=Scope.READ, about=("report",)),
        "PUT /reports/{id}": Rule(
            scope=Scope.WRITE,
            about=("report",),
            given=_of(412),
            body={"name": "Won", "measures": ["deals_won"]},
            headers=_BESIDE,
        ),
        "GET /reports/behind": Rule(scope=Scope.READ, query="measures=deals_won"),
        "GET /reports/{id}/mails": Rule(scope=Scope.READ, about=("report",)),
        "PUT /reports/{id}/mails": Rule(
            scope=Scope.WRITE, about=("report",), body={"every": "day", "at": "08:30"}
        ),
        "DELETE /reports/{id}/mails/{user_id}": Rule(scope=Scope.WRITE, about=("report",), given=_of(404)),
        "DELETE /reports/{id}": Rule(scope=Scope.WRITE, about=("spare report",), given=_of(204, 404)),
        "GET /funnel": _READ,
        "POST /files": Rule(
            scope=Scope.WRITE,
            about=("lead",),
            who=WRITERS,
            given=_of(201),
            body={"type": "lead", "id": ID, "name": "a.txt", "content": "aGk="},
        ),
        "GET /files/{id}": Rule(scope=Scope.READ, about=("attachment",), given=_of(422)),  # a reference
        "GET /segments": _READ,
        "POST /segments": Rule(
            scope=Scope.WRITE,
            given=_of(201),
            body={"type": "lead", "name": "North", "filter": ["region:eq:North"]},
        ),
        "GET /segments/{id}": Rule(scope=Scope.READ, about=("segment",)),
        "GET /segments/{id}/members": Rule(scope=Scope.READ, about=("segment",)),
        "DELETE /segments/{id}": Rule(scope=Scope.WRITE, about=("spare segment",), given=_of(204, 404)),
        "GET /views": Rule(scope=Scope.READ, query="type=lead"),
        "POST /views": Rule(
            scope=Scope.WRITE, given=_of(201), body={"type": "lead", "name": "North", "asked": {}}
        ),
        "GET /views/{id}": Rule(scope=Scope.READ, about=("view",)),
        "DELETE /views/{id}": Rule(scope=Scope.WRITE, about=("spare view",), given=_of(204, 404)),
        "GET /today": _READ,
        **dict.fromkeys(("GET /marketing/campaigns", "GET /marketing/attribution"), _READ),
        "GET /marketing/lead-quality": _READ,
        "GET /marketing/campaigns/{id}": Rule(scope=Scope.READ, about=("campaign",)),
        "POST /marketing/campaigns/{id}/members": Rule(
            scope=Scope.WRITE, about=("campaign",), who=LEADERS, body={"filter": ["id:eq:0"]}
        ),
        "GET /marketing/campaigns/{id}/audiences": Rule(scope=Scope.READ, about=("campaign",)),
        "DELETE /marketing/campaigns/{id}/audiences/{segment_id}": Rule(
            scope=Scope.WRITE, about=("campaign",), who=LEADERS, given=_of(204)
        ),
        "GET /forms": Rule(scope=Scope.READ, who=LEADERS),
        "POST /forms": Rule(scope=Scope.WRITE, who=LEADERS, given=_of(201), body=_A_FORM),
        "GET /forms/{id}": Rule(scope=Scope.READ, who=LEADERS, given=_of(404)),
        "PATCH /forms/{id}": Rule(scope=Scope.WRITE, who=LEADERS, given=_of(404), body={"name": "Ask us"}),
        "GET /forms/submissions": Rule(scope=Scope.READ, who=LEADERS),
        "POST /forms/submissions/{id}/decide": Rule(
            scope=Scope.WRITE, who=LEADERS, given=_of(404), body={"decision": "take"}
        ),
        "GET /search": Rule(scope=Scope.READ, query="q=Fangda"),
        "GET /duplicates": Rule(scope=Scope.READ, query="record_type=lead"),
    }


def _of_selling() -> dict[str, Rule]:
    def verb(record_type: str, body: Any, *statuses: int) -> Rule:
        given = _of(*(statuses or (200, 409, 422)))
        return Rule(scope=Scope.WRITE, about=(record_type,), who=WRITERS, given=given, body=body)

    def read(record_type: str) -> Rule:
        return Rule(scope=Scope.READ, about=(record_type,))

    terms = {"starts_on": "2026-04-01", "ends_on": "2027-03-31"}
    plans = {
        f"{method} /{path}/{{id}}/{what}": rule
        for path, record_type in (("contracts", "contract"), ("orders", "order"))
        for method, what, rule in (
            ("GET", "payment-plan", read(record_type)),
            ("PUT", "payment-plan", verb(record_type, {"parts": []})),
            ("POST", "receive", verb(record_type, {"amount": "1"})),
        )
    }
    return plans | {
        # What was done for one person is refused to the next one.
        "POST /quotes/{id}/send": verb("quote", {}),
        "POST /quotes/{id}/revise": verb("quote", {}, 201, 409),
        "POST /quotes/{id}/accept": verb("quote", {"order": False}),
        "POST /quotes/{id}/reject": verb("quote", {"reason": "Price"}),
        "POST /quotes/{id}/approval": verb("quote", {}, 409, 422),
        "POST /quotes/{id}/contract": verb("quote", terms, 201, 422),
        "GET /quotes/{id}/totals": read("quote"),
        "GET /approvals": _READ,
        "GET /approvals/{id}": Rule(scope=Scope.READ, given=_of(404)),
        "POST /approvals/{id}/decide": Rule(
            scope=Scope.WRITE, who=EVERYBODY, given=_of(404), body={"approve": True}
        ),  # who may decide which is looked at where quotes are
        "POST /orders/{id}/contract": verb("order", terms, 201),
        "POST /contracts/{id}/renew": verb("contract", {}, 201, 422),
        "POST /contracts/{id}/renewal-deal": verb("contract", {}, 201),
        "POST /contracts/{id}/end": verb("contract", {}),
        "POST /payments/{id}/receive": verb("payment", {"amount": "1"}),
        "GET /payments/overdue": _READ,
        "GET /deals/{id}/checklist": read("deal"),
        "POST /deals/{id}/checklist": verb("deal", {"key": "none"}, 404),
        **{
            f"POST /{record_type}s/{{id}}/meetings": verb(record_type, {"steps": [{"text": "Call"}]}, 201)
            for record_type in ("lead", "deal", "account", "contact")
        },
        "GET /targets": _READ,
        "GET /unusual-changes": _READ,
        "PUT /targets": Rule(
            scope=Scope.WRITE,
            who=LEADERS,
            body={
                "whose": "user",
                "whose_id": MARA,
                "period": "2026-Q1",
                "measure": "payments_received",
                "currency": "EUR",
                "value": "9000",
            },
        ),
        "POST /targets/{id}/split": Rule(
            scope=Scope.WRITE, who=LEADERS, given=_of(404), body={"over": "months"}
        ),
        "GET /deals/{id}/money": read("deal"),
        "GET /accounts/{id}/money": read("account"),
        "GET /accounts/{id}/profile": read("account"),
    }


def _all() -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    for record_type in PATHS:
        found |= _of_records(record_type)
    found |= _of_selling() | _of_scored() | _of_verbs() | _of_models() | _of_alerts()
    return (
        found
        | _of_the_house()
        | _of_all_types()
        | _of_service()
        | _of_mail()
        | _of_settings()
        | _of_oneself()
    )


RULES: Final = _all()
"""By operation, as `METHOD /path` below the API's prefix."""

OPEN: Final = frozenset({"GET /healthz", "GET /readyz"})
"""What needs no key."""

METRICS: Final = Rule(scope=Scope.READ, who=PROMOTERS)
"""What is measured, beside the API."""

TYPES: Final[Mapping[str, str]] = {
    "lead": "leads",
    "deal": "deals",
    "account": "customers",
}
"""How `{type}` is written in the paths of what is scored."""
